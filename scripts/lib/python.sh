# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# ruff, which Debian 13 does not have: from PyPI, by the lab's Python and Debian's pip, into a place of its own in the cache. The
# lab stays as it is, so nobody has to make it anew.

RUFF=0.17.5

# What PyPI must give for it, on x86-64.
RUFF_SHA256=40ca8afaac309b41a5b2e09e4e7beb1f824826b93c25697c4d74f573324fba4e

# ensure_ruff: fetches ruff if needed, and sets RUFF_BIN.
ensure_ruff() {
	local dir
	ensure_lab
	dir=$ENBD_CACHE/ruff-$RUFF-${RUFF_SHA256:0:8}
	[[ -d $dir ]] || need_root
	cached "$dir" make_ruff
	# shellcheck disable=SC2034 # read by scripts/check
	RUFF_BIN=$dir/bin/ruff
}

make_ruff() {
	local pip=$1/pip
	update_lists
	progress "fetching pip from $ENBD_MIRROR" fetch_debs "$pip" python3-pip
	printf 'ruff==%s --hash=sha256:%s\n' "$RUFF" "$RUFF_SHA256" >"$1/requirements"
	progress "fetching ruff $RUFF from PyPI" in_lab env PYTHONPATH="$pip/usr/lib/python3/dist-packages" \
		python3 -m pip install --quiet --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
		--root-user-action=ignore --target "$1/packages" --requirement "$1/requirements"
	mv "$1/packages/bin" "$1/bin"
	rm -rf "$pip" "$1/packages" "$1/requirements"
}
