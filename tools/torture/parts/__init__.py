# SPDX-License-Identifier: GPL-2.0
"""What torture is made of, one noun a file."""
