"""A server made with the official Python SDK (PyPI `mcp`), so that two people's reading of the protocol meet."""

import asyncio
import os

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("judge")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def report(context: Context) -> list[str]:
    """Tells how far it is, then gives two lines."""
    await context.report_progress(1, 2)
    return ["one", "two"]


@server.tool()
async def wait() -> str:
    """Ends when it is cancelled."""
    note("waiting")
    try:
        await asyncio.sleep(600)
    finally:
        note("cancelled")
    return "too late"


def note(line: str) -> None:
    with open(os.environ["NOTES"], "w") as notes:
        notes.write(line + "\n")


server.run()
