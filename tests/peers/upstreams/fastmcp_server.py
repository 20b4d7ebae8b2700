"""A small FastMCP server: both revisions on one HTTP endpoint, as popular servers are written today."""

import sys

from fastmcp import FastMCP

server = FastMCP("popular")


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool
def drop(table: str) -> str:
    """Drops a table."""
    return f"dropped {table}"


@server.resource("popular://motto")
def motto() -> str:
    """A sentence."""
    return "Small things work."


@server.prompt
def review(subject: str) -> str:
    """Asks for a review."""
    return f"Please review {subject}."


if __name__ == "__main__":
    server.run("http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False, log_level="WARNING")
