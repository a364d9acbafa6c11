# SPDX-License-Identifier: GPL-2.0
"""Lives of a client, one after the other, over servers that stay."""
