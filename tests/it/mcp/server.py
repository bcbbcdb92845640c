"""A server of the Model Context Protocol for the tests, with nothing but Python's own library.

It speaks JSON-RPC, one JSON text a line. What it does wrong is chosen by its arguments; each is explained in main.
"""

import json
import os
import signal
import subprocess
import sys
import threading

lock = threading.Lock()
answers = {}
cancelled = {}
meeting = threading.Barrier(2)
grown = False


def send(message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def note(line):
    """Tells the test, by the named pipe that it reads."""
    if "NOTES" in os.environ:
        with open(os.environ["NOTES"], "w") as notes:
            notes.write(line + "\n")


def ask(method):
    """Asks the client, and gives what it said."""
    answered = threading.Event()
    answers[method] = (answered, {})
    send({"id": method, "method": method, "params": {}})
    answered.wait()
    return answers[method][1]


def text(text, **more):
    return {"content": [{"type": "text", "text": text}], **more}


def echo(arguments, _):
    return text(arguments.get("text", ""))


def fail(arguments, _):
    return text("no such file", isError=True)


def refuse(arguments, _):
    raise LookupError("the arguments do not please")


def mixed(arguments, _):
    return {"content": [
        {"type": "text", "text": "a picture:"},
        {"type": "image", "mimeType": "image/png", "data": "AAECAw=="},
    ]}


def structured(arguments, _):
    return {"content": [], "structuredContent": {"degrees": 21}}


def big(arguments, _):
    return text("x" * arguments["bytes"])


def meet(arguments, _):
    """Two of these calls have to be under way at once."""
    meeting.wait()
    return text("met")


def wait(arguments, request):
    """Ends when it is cancelled, and answers all the same."""
    note("waiting")
    cancelled[request].wait()
    note("cancelled")
    return text("too late")


def die(arguments, _):
    print("out of memory, says token ghp_0123456789", file=sys.stderr, flush=True)
    os._exit(3)


def last_words(arguments, request):
    """Answers, and is gone before anybody can have read it."""
    send({"id": request, "result": text("farewell")})
    os._exit(0)


def environment(arguments, _):
    return text(os.environ.get(arguments["name"], "(not set)"))


def folder(arguments, _):
    return text(os.getcwd())


def descriptors(arguments, _):
    """How many descriptors were there at the start, besides the standard three."""
    return text(str(inherited))


def ask_back(arguments, _):
    asked = [ask(method) for method in ["roots/list", "sampling/createMessage", "elicitation/create", "ping"]]
    return text(" ".join(str(answer.get("error", {}).get("code", "answered")) for answer in asked))


def grow(arguments, _):
    global grown
    grown = True
    send({"method": "notifications/message", "params": {"level": "info", "data": "growing"}})
    send({"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}})
    send({"method": "notifications/tools/list_changed"})
    return text("grown")


TOOLS = [echo, fail, refuse, mixed, structured, big, meet, wait, die, last_words, environment, folder, descriptors,
         ask_back, grow]


def tools():
    listed = TOOLS + ([echo] if grown else [])
    names = [tool.__name__ for tool in listed]
    if grown:
        names[-1] = "new"
    return [{"name": name, "description": "Does " + name + ".", "inputSchema": {"type": "object"}} for name in names]


def call(request, params):
    cancelled[request] = threading.Event()
    name = params["name"]
    tool = next((tool for tool in TOOLS if tool.__name__ == name), echo)
    try:
        send({"id": request, "result": tool(params.get("arguments") or {}, request)})
    except LookupError as error:
        send({"id": request, "error": {"code": -32602, "message": str(error)}})


def take(message, options):
    method, request, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method is None:
        # Some answers are to what was no question.
        answered, answer = answers.get(request, (threading.Event(), {}))
        answer.update(message)
        answered.set()
    elif method == "initialize" and "modern" in options:
        send({"id": request, "error": {"code": -32601, "message": "no handshakes any more"}})
    elif method == "initialize":
        send({"id": request, "result": {"protocolVersion": params["protocolVersion"],
                                        "capabilities": {"tools": {"listChanged": True}, "logging": {}},
                                        "serverInfo": {"name": "test", "version": "1"}}})
    elif method == "server/discover":
        send({"id": request, "result": {"resultType": "complete", "supportedVersions": ["2026-07-28"],
                                        "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}})
    elif method == "tools/list":
        listed = tools()
        at = int(params.get("cursor") or 0)
        page = {"tools": listed[at:at + 1], "nextCursor": str(at + 1)} if "pages" in options else {"tools": listed}
        if at + 1 >= len(listed):
            page.pop("nextCursor", None)
        if "modern" in options:
            page.update(resultType="complete", ttlMs=0, cacheScope="private")
        send({"id": request, "result": page})
    elif method == "tools/call":
        threading.Thread(target=call, args=(request, params), daemon=True).start()
    elif method == "notifications/cancelled" and params.get("requestId") in cancelled:
        cancelled[params["requestId"]].set()
    elif request is not None:
        send({"id": request, "error": {"code": -32601, "message": method}})


def main(options):
    global inherited
    inherited = len([fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2]) - 1
    note(str(os.getpid()))
    if "child" in options:
        # Something that it started, which holds no pipe of ours and lives on by itself.
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(["sleep", "600"], stdin=quiet, stdout=quiet, stderr=quiet)
        note(str(child.pid))
    if "broken" in options:
        sys.exit("cannot read its own settings: token ghp_0123456789")
    if "silent" in options:
        print("thinking", file=sys.stderr, flush=True)
        signal.pause()
    if "stubborn" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "garbage" in options:
        sys.stdout.write("Welcome!\n\n[1, 2]\n{\"jsonrpc\":\"2.0\"}\n\u00e4\u00f6\n{\"half\": \n")
    if "flood" in options:
        sys.stderr.write("y" * 4_000_000 + "\n" + "line\n" * 100_000)
        sys.stderr.flush()
    for line in sys.stdin:
        take(json.loads(line), options)
    note("end of input")
    if "stubborn" in options:
        signal.pause()


main(sys.argv[1:])
