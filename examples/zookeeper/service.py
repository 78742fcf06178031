"""A service that others find in ZooKeeper: `service.py run`, `service.py deregister`, `service.py list`."""

import os
import signal
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

PLACE = "/services/web"


def connect():
    # The session outlives its connection by this long: time to come back after a broken network.
    client = KazooClient(hosts=os.environ["ZOOKEEPER"], timeout=30)
    # A server listens a while before it serves: who connects in that time waits for those 30 s and has to try again.
    client.start(timeout=90)
    return client


def run():
    client = connect()
    client.create(PLACE, b"http://web:8080", ephemeral=True, makepath=True)
    # Ends as most programs end: the session is not closed, and nobody can tell that from a broken network.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    print("service: registered", flush=True)
    while True:
        signal.pause()


def deregister():
    client = connect()
    try:
        client.delete(PLACE)
    except NoNodeError:
        print("service: was not registered", flush=True)
    else:
        print("service: deregistered", flush=True)
    client.stop()


def show():
    client = connect()
    print(client.get_children("/services"), flush=True)
    client.stop()


{"run": run, "deregister": deregister, "list": show}[sys.argv[1]]()
