"""A task that takes a while, with a folder as its broker, so that the example needs no other server."""

import os
import time

from celery import Celery

PLACE = os.environ.get("PLACE", "/srv/queue")

app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": PLACE,
        "data_folder_out": PLACE,
        "processed_folder": PLACE,
        "store_processed": False,
    },
    worker_hijack_root_logger=False,
)


@app.task
def bill(number):
    print(f"task: bill {number} begun", flush=True)
    time.sleep(3)
    print(f"task: bill {number} paid", flush=True)
