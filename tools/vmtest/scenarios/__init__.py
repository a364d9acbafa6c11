# SPDX-License-Identifier: GPL-2.0
"""One scenario a file: `run()` does it, `LIMIT_S` bounds it. Each finds enbd just loaded and its directory empty."""
