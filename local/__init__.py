"""The whole cloud on a laptop. Nothing in here ships in a layer."""
