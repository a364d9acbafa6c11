# SPDX-License-Identifier: GPL-2.0
"""What can happen to a client that has sent writes and waits for the replies; each a function of a `Trial`.

Each gives a connection on which the newer writes are made then.
"""

import os
import signal

import regions

ALL = range(regions.COUNT)


def half_close(trial):
    """The client closes its sending side between two requests, and waits for FIN."""
    trial.send(ALL)
    trial.client.half_close()
    trial.hear()
    return trial.connect()


def cut_short(trial):
    """The client closes its sending side within a request, and waits for FIN."""
    trial.send(ALL)
    regions.send_cut_short(trial.client)
    trial.client.half_close()
    trial.hear()
    return trial.connect()


def disconnect(trial):
    """The client says good-bye (NBD_CMD_DISC), and waits for FIN."""
    trial.send(ALL)
    trial.client.say_goodbye()
    trial.hear()
    return trial.connect()


def close(trial):
    """The client closes, or dies."""
    trial.send(ALL)
    trial.client.close()
    return trial.connect()


def reset(trial):
    """The client resets the connection."""
    trial.send(ALL)
    trial.client.reset()
    return trial.connect()


def stop_reset(trial):
    """The server is stopped while the writes come and the client resets the connection; goes on; then newer writes."""
    trial.server.pause()
    trial.send(ALL)
    trial.client.reset()
    trial.server.resume()
    return trial.connect()


def stop_newer(trial):
    """The same, but the newer writes wait in another connection of the server when it goes on."""
    other = trial.connect()
    trial.server.pause()
    trial.send(ALL)
    trial.client.reset()
    trial.before_newer = trial.server.resume
    return other


def stop_one(trial):
    """Only the process of the connection is stopped; it goes on when the newer writes were acknowledged."""
    other = trial.connect()
    go_on = trial.pause_connection()
    trial.send(ALL)
    trial.client.reset()
    trial.after_newer = go_on
    return other


def kill(trial):
    """The server is killed, and started again."""
    trial.send(ALL)
    trial.server.kill()
    trial.hear()
    trial.server.start()
    return trial.connect()


def terminate(trial):
    """The server is asked to end (SIGTERM), and started again."""
    trial.send(ALL)
    os.killpg(trial.server.process.pid, signal.SIGTERM)
    trial.hear()
    trial.server.kill()
    trial.server.start()
    return trial.connect()


def _cut(trial, end):
    trial.network.cut()
    regions.send_old(trial.client, range(regions.HALF, regions.COUNT))
    end()
    trial.let_pass(3)
    trial.network.heal()
    return trial.connect()


def cut_reset(trial):
    """The network is cut when the server has half of the writes; the client resets the connection; the network is healed."""
    trial.send(range(regions.HALF))
    return _cut(trial, trial.client.reset)


def cut_close(trial):
    """The same, but the client closes in order: its kernel keeps what it could not send."""
    trial.send(range(regions.HALF))
    return _cut(trial, trial.client.close)


def cut_idle_close(trial):
    """The same, but the server has answered all that it got when the network is cut."""
    trial.send(range(regions.HALF))
    trial.client.replies(60, regions.HALF)
    return _cut(trial, trial.client.close)


def cut_half_close(trial):
    """As cut_close, but the client closes its sending side, and waits for FIN when the newer writes are acknowledged."""
    trial.send(range(regions.HALF))
    trial.after_newer = trial.hear
    return _cut(trial, trial.client.half_close)


EVENTS = (
    half_close, cut_short, disconnect, close, reset, stop_reset, stop_newer, stop_one, kill, terminate, cut_reset,
    cut_close, cut_idle_close, cut_half_close,
)
