"""The real ClientApp, of which one site fails in another way in each round."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp

from neuroloom.federated import client
from neuroloom.federated.wire import ARRAYS, FACTS, RAW

BAD = "s-south"
SLEEP_S = float(os.environ.get("FAULTY_SLEEP", "30"))
app = ClientApp()
app.evaluate()(client.evaluate)


@app.train()
def train(message: Message, context: Context) -> Message:
    if BAD not in str(context.node_config["site-file"]):
        return client.train(message, context)
    number = int(message.content[FACTS]["round"])
    if number == 5:
        raise RuntimeError("the disk of the hospital is full")
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        time.sleep(SLEEP_S)
    reply = client.train(message, context)
    record, facts = reply.content[ARRAYS], reply.content[FACTS]
    name, sent = next(iter(record.items()))
    values = np.frombuffer(sent.data, "<f4").reshape(sent.shape)
    changed = {1: np.full_like(values, np.nan), 2: values + 1e6, 3: values[:1]}.get(number, values)
    record[name] = Array("float32", changed.shape, RAW, changed.astype("<f4").tobytes())
    if number == 4:
        facts["base"] = "0123456789abcdef"
    return reply
