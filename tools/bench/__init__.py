# SPDX-License-Identifier: GPL-2.0
"""The comparison of `make bench`: what runs in the VM, and what is made of it afterwards."""
