# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What every script here shares: messages, the cache and the way things get into it.

ENBD_REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
ENBD_CACHE=${ENBD_CACHE:-/var/cache/enbd}
ENBD_MIRROR=${ENBD_MIRROR:-http://deb.debian.org/debian}
export ENBD_REPO ENBD_CACHE ENBD_MIRROR

# Everything that a person reads goes to stderr: stdout is for results that other scripts read.
say() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
	say "error: $*"
	exit 1
}

# What nobody thought of still says where it happened.
set -E
trap 'say "error: stopped at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR

need_root() {
	((EUID == 0)) || die "must run as root (it uses chroot and mount): try sudo $0"
}

# need_command COMMAND PACKAGE: installs PACKAGE when COMMAND is not there.
need_command() {
	command -v "$1" >/dev/null || install_package "$2"
}

install_package() {
	local log
	command -v apt-get >/dev/null || die "$1 is not installed, and there is no apt-get to install it with"
	say "installing $1"
	log=$(apt-get install -y --no-install-recommends "$1" 2>&1 </dev/null) ||
		log=$(apt-get update 2>&1 && apt-get install -y --no-install-recommends "$1" 2>&1 </dev/null) ||
		die "cannot install $1: ${log##*$'\n'}"
}

# need_space MIB WHAT: refuses to start what would fill the disk.
need_space() {
	local free
	free=$(df --output=avail -m "$ENBD_CACHE" | tail -n 1)
	((free >= $1)) ||
		die "$2 needs $1 MiB in $ENBD_CACHE, only $((free)) MiB are free (another place: ENBD_CACHE=DIR)"
}

open_cache() {
	mkdir -p "$ENBD_CACHE/locks" "$ENBD_CACHE/run" "$ENBD_CACHE/known" 2>/dev/null || true
	[[ -w $ENBD_CACHE/locks ]] || die "cannot write to the cache $ENBD_CACHE: try sudo $0"
	ENBD_CACHE=$(cd "$ENBD_CACHE" && pwd -P)
	clear_leftovers
}

# Removes what interrupted runs left: directories that bear no final name, and that nobody is filling.
clear_leftovers() {
	local dir name fd
	for dir in "$ENBD_CACHE"/*.partial*; do
		[[ -d $dir ]] || continue
		name=${dir##*/}
		exec {fd}>"$ENBD_CACHE/locks/${name%%.partial*}"
		! flock -n "$fd" || rm -rf --one-file-system "$dir"
		exec {fd}>&-
	done
	find "$ENBD_CACHE/run" -mindepth 1 -maxdepth 1 -not -name 'vm.*' -mtime +1 -exec rm -rf {} +
}

# repo_key: tells clones of the repository apart in the cache.
repo_key() {
	sha256sum <<<"$ENBD_REPO" | cut -c 1-12
}

# with_lock NAME COMMAND...: one COMMAND at a time under this NAME, whichever process runs it.
with_lock() {
	local lock fd
	lock=$ENBD_CACHE/locks/$1
	shift
	exec {fd}>"$lock"
	if ! flock -n "$fd"; then
		say "waiting for another run that holds ${lock##*/}"
		flock "$fd"
	fi
	"$@"
	set -- $?
	exec {fd}>&-
	return "$1"
}

# cached DIR FUNCTION [ARG...]: DIR, made if it is not there by FUNCTION DIR.partial ARG...
# Only a finished DIR bears its name, so an interrupt at any point leaves nothing that could be mistaken for one.
cached() {
	[[ -d $1 ]] || with_lock "$(basename "$1")" make_cached "$@"
}

make_cached() {
	local dir=$1 recipe=$2
	shift 2
	[[ ! -d $dir ]] || return 0
	mkdir -p "$(dirname "$dir")"
	rm -rf --one-file-system "$dir.partial"
	mkdir "$dir.partial"
	"$recipe" "$dir.partial" "$@"
	mv "$dir.partial" "$dir"
}

# progress WHAT COMMAND...: runs COMMAND with its output in a log, and says every so often that it is alive.
progress() {
	local what=$1 log start=$SECONDS pid
	shift
	log=$(mktemp "$ENBD_CACHE/run/log.XXXXXX")
	say "$what ..."
	# In a process group of its own, so that all of it can be ended.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # expanded now: these are locals
	trap "kill -TERM -- -$pid; wait; rm -f '$log'; exit 130" INT TERM HUP
	while sleep 1 && kill -0 "$pid" 2>/dev/null; do
		(((SECONDS - start) % 15)) || say "  $((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c 1-100)"
	done
	trap - INT TERM HUP
	if ! wait "$pid"; then
		tail -n 25 "$log" >&2
		rm -f "$log"
		die "$what: failed, see above"
	fi
	rm -f "$log"
	say "$what: done in $((SECONDS - start)) s"
}
