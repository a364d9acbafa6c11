# SPDX-License-Identifier: GPL-2.0
"""The connection between the client of a life and the machine that it runs on."""

# What this machine's loopback is to the VM, which has no way to anywhere else.
HOST = "10.0.2.2"
