"""Toy's simulator."""

from typing import Any, ClassVar

from local.simulators.base import Account, Received, Refused, Reply, Simulator, route

KINDS = {"open": "active", "shut": "closed"}
KINDS_OF = {"active": "open", "closed": "shut"}


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
        return {"boards": [], "cards": {}}

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
        columns = [{"title": stage["name"], "kind": KINDS_OF.get(str(stage.get("status")), "open")} for stage in stages]
        board = self._board(name, columns)
        self.state["boards"].append({**board, "born": "2020-01-01T00:00:00Z"})
        for column, stage in zip(board["columns"], stages, strict=True):
            self.state["cards"][column["id"]] = stage.get("records", 0)
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
        return Reply(200, {"boards": self.state["boards"]})

    @route("POST", "/api/boards")
    def create_board(self, request: Received) -> Reply:
        board = self._board(request.json["title"], request.json.get("columns", []))
        self.state["boards"].append(board)
        return Reply(201, board)

    @route("GET", "/api/boards/{board_id}")
    def read_board(self, request: Received, board_id: str) -> Reply:  # noqa: ARG002
        return Reply(200, self._find(board_id))

    @route("PATCH", "/api/boards/{board_id}")
    def change_board(self, request: Received, board_id: str) -> Reply:
        board = self._find(board_id)
        board.update(request.json)
        return Reply(200, board)

    @route("POST", "/api/boards/{board_id}/columns")
    def create_column(self, request: Received, board_id: str) -> Reply:
        column = {"id": self.letters(8), "kind": "open", **request.json}
        self._find(board_id)["columns"].append(column)
        return Reply(201, column)

    @route("PATCH", "/api/boards/{board_id}/columns/{column_id}")
    def change_column(self, request: Received, board_id: str, column_id: str) -> Reply:
        column = self._column(board_id, column_id)
        column.update(request.json)
        return Reply(200, column)

    @route("DELETE", "/api/boards/{board_id}/columns/{column_id}")
    def delete_column(self, request: Received, board_id: str, column_id: str) -> Reply:  # noqa: ARG002
        column = self._column(board_id, column_id)
        if self.state["cards"].get(column_id):
            raise Refused(Reply(409, {"message": "Cards are on it.", "code": "in_use"}))
        self._find(board_id)["columns"].remove(column)
        return Reply(204)

    @route("DELETE", "/api/boards/{board_id}")
    def delete_board(self, request: Received, board_id: str) -> Reply:  # noqa: ARG002
        board = self._find(board_id)
        if any(self.state["cards"].get(column["id"]) for column in board["columns"]):
            raise Refused(Reply(409, {"message": "Cards are on it.", "code": "in_use"}))
        self.state["boards"].remove(board)
        return Reply(204)

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        self.state["cards"][stage_id] = records

    def _find(self, board_id: str) -> dict[str, Any]:
        for board in self.state["boards"]:
            if board["id"] == board_id:
                found: dict[str, Any] = board
                return found
        raise Refused(Reply(404, {"message": "No such board."}))

    def _column(self, board_id: str, column_id: str) -> dict[str, Any]:
        for column in self._find(board_id)["columns"]:
            if column["id"] == column_id:
                found: dict[str, Any] = column
                return found
        raise Refused(Reply(404, {"message": "No such column."}))

    def _board(self, title: str, columns: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.letters(8),
            "title": title,
            "columns": [{"id": self.letters(8), "kind": "open", **column} for column in columns],
            "born": self.now().isoformat(),
        }
