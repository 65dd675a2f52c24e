from __future__ import annotations

import os
import sys

from collapse_sim.run.child_process import start_child

CODE = """
import json, os, sys
from multiprocessing.connection import Connection
print("not seen", file=sys.stderr)
with Connection(int(sys.argv[1])) as connection:
    told = connection.recv()
    connection.send([told, os.getsid(0), sys.path])
    assert not connection.poll(None) or not connection.recv_bytes()
"""


def test_a_child_imports_what_this_process_would_and_ends_with_its_connection(capfd):
    child, connection = start_child(CODE)
    try:
        connection.send("hello")
        told, session, path = connection.recv()
        assert told == "hello"
        assert session == child.pid != os.getsid(0)  # Ctrl-C in a terminal does not reach it
        assert set(filter(None, sys.path)) <= set(path)
        assert child.poll() is None
        connection.close()
        assert child.wait(30) != 0  # at the end of what it reads
    finally:
        child.kill()
    assert capfd.readouterr() == ("", "")
