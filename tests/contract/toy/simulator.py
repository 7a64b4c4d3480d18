"""Toy's simulator."""

from typing import Any, ClassVar

from local.simulators.base import Account, Received, Refused, Reply, Simulator, route

KINDS = {"open": "active", "shut": "closed"}


class ToySimulator(Simulator):
    name = "toy"
    demo_account_id = "00000000-0000-4000-8000-000000000707"
    demo_account: ClassVar[Account] = {
        "provider": "toy",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": "toy-demo-token-77"},
        "settings": {},
    }
    times = frozenset({"born"})

    def fresh(self) -> dict[str, Any]:
        return {"boards": []}

    def view(self, entity: str | None) -> list[dict[str, Any]]:  # noqa: ARG002
        return [
            {
                "id": board["id"],
                "name": board["title"],
                "stages": [{"id": c["id"], "name": c["title"], "status": KINDS[c["kind"]]} for c in board["columns"]],
            }
            for board in self.state["boards"]
        ]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:  # noqa: ARG002
        board = self._board(name, [{"title": stage["name"]} for stage in stages])
        self.state["boards"].append({**board, "born": "2020-01-01T00:00:00Z"})
        return str(board["id"])

    def admit(self, request: Received) -> None:
        if request.bearer != "toy-demo-token-77":
            raise Refused(Reply(401, {"message": "Who are you?"}))

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:  # noqa: ARG002
        return Reply(405 if allowed else 404, {"message": "No."})

    def too_many(self, retry_after: int | None) -> Reply:
        return Reply(429, {"message": "Slow."}, {} if retry_after is None else {"Retry-After": str(retry_after)})

    @route("GET", "/api/boards")
    def list_boards(self, request: Received) -> Reply:  # noqa: ARG002
        return Reply(200, self.state)

    @route("POST", "/api/boards")
    def create_board(self, request: Received) -> Reply:
        board = self._board(request.json["title"], request.json.get("columns", []))
        self.state["boards"].append(board)
        return Reply(201, board)

    @route("DELETE", "/api/boards/{board_id}")
    def delete_board(self, request: Received, board_id: str) -> Reply:  # noqa: ARG002
        self.state["boards"] = [board for board in self.state["boards"] if board["id"] != board_id]
        return Reply(204)

    def _board(self, title: str, columns: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.letters(8),
            "title": title,
            "columns": [{"id": self.letters(8), "kind": "open", **column} for column in columns],
            "born": self.now().isoformat(),
        }
