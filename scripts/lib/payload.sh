# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a VM gets anew in each run: the module, the repository's files, the job. A tar on a disk of its own.

# build_module: enbd.ko for RELEASE, if there is a module to build and what is there is not up to date.
build_module() {
	local log
	MODULE=
	[[ -f $ENBD_REPO/Kbuild && -f $ENBD_REPO/rust/enbd_main.rs ]] || return 0
	if ! log=$("$ENBD_REPO/scripts/kbuild" "$KDIR" 2>&1); then
		printf '%s\n' "$log" >&2
		die "enbd.ko cannot be built, see above"
	fi
	MODULE=$ENBD_REPO/enbd.ko
	# scripts/kbuild holds it while it builds.
	MODULE_LOCK=$ENBD_REPO/Kbuild
}

# build_tool_for FILE: enbdctl, if FILE says that it wants it. Without it everything else still works.
build_tool_for() {
	local log
	TOOL=
	[[ -f $1 ]] && head -n 5 "$1" | grep -qx '# vm: with enbdctl' || return 0
	if log=$(build_tool dev 2>&1); then
		TOOL=$(tool_program dev)
	else
		printf '%s\n' "$log" >&2
		say "enbdctl cannot be built, see above: the VM goes without"
	fi
}

# make_payload [FILE [ARG...]]
make_payload() {
	local tree=$RUN/payload
	mkdir -p "$tree/enbd" "$tree/src" "$tree/root"
	install -m 755 "$ENBD_REPO/scripts/guest/init" "$tree/enbd/init"
	if [[ $INTERACTIVE ]]; then
		install -m 755 "$ENBD_REPO/scripts/guest/shell" "$tree/enbd/job"
		printf 'INTERACTIVE=1\nVM_TERM=%q\n' "${TERM:-linux}" >"$tree/enbd/environment"
		stty size 2>/dev/null | sed 's/\(.*\) \(.*\)/ROWS=\1\nCOLUMNS=\2/' >>"$tree/enbd/environment"
		: >"$tree/enbd/arguments"
	else
		install -m 755 "$1" "$tree/enbd/job"
		: >"$tree/enbd/environment"
		shift
		if (($#)); then printf '%s\0' "$@"; fi >"$tree/enbd/arguments"
	fi
	add_module "$tree"
	add_tool "$tree"
	add_packages "$tree"
	pack "$tree"
}

# Status 1 is a file that changed meanwhile: somebody is at work there.
pack() {
	tar -C "$ENBD_REPO" -cf "$RUN/payload.tar" --transform='s,^\.,./src,' --warning=no-file-changed \
		--exclude=./.git --exclude=target --exclude=./results --exclude='*.o' --exclude='*.ko' --exclude='*.cmd' \
		--exclude='*.mod' --exclude='*.mod.c' --exclude=Module.symvers --exclude=modules.order . || (($? == 1))
	tar -C "$1" -rf "$RUN/payload.tar" .
	rm -rf "$1"
}

# add_module TREE: enbd.ko where modprobe finds it.
add_module() {
	local modules=$1/lib/modules/$RELEASE
	[[ $MODULE ]] || return 0
	mkdir -p "$modules/extra"
	# Not while another build writes it.
	flock "$MODULE_LOCK" cp "$MODULE" "$1/root/enbd.ko"
	cp "$1/root/enbd.ko" "$modules/extra/enbd.ko"
	ln -s "$BOOT/lib/modules/$RELEASE/kernel" "$modules/kernel"
	cp "$BOOT/lib/modules/$RELEASE/"modules.{order,builtin}* "$modules/"
	in_lab depmod -b "$1" "$RELEASE"
	rm "$modules/kernel"
}

# add_packages TREE: what `make deb` made, if the job says that it wants it.
add_packages() {
	[[ -f $1/enbd/job ]] && head -n 5 "$1/enbd/job" | grep -qx '# vm: with packages' || return 0
	mkdir -p "$1/root/packages"
	cp "$ENBD_REPO"/results/packages/*.deb "$1/root/packages/" || die "there are no packages: make deb"
	# Metadata for compilers, which the VM has not.
	rm -f "$1"/root/packages/linux-rust-*.deb
}

# add_tool TREE: enbdctl where the PATH finds it, without what only a debugger reads.
add_tool() {
	[[ $TOOL ]] || return 0
	mkdir -p "$1/usr/local/sbin"
	in_lab strip -o "$1/usr/local/sbin/enbdctl" "$TOOL"
}
