# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The kernel of scripts/vm --debug: Debian's sources of the chosen release, built with scripts/debug-kernel.config, and
# an enbd.ko for it. Both are apart from the stock kernel's, which never notice.

DEBUG_CONFIG=$ENBD_REPO/scripts/debug-kernel.config

# To be raised when what follows changes what is built.
DEBUG_RECIPE=1

# Rust and KASAN together need clang, of the same LLVM as rustc.
DEBUG_CC=clang-19

# The build is somebody's background: it leaves the machine usable.
DEBUG_MAKE=(nice -n 5 make -j2 --no-print-directory "CC=$DEBUG_CC")

# For the drivers that are modules elsewhere: no devices that nobody asked for. KASAN shall not stop at the first report.
# shellcheck disable=SC2034 # read by scripts/vm
DEBUG_ARGUMENTS="null_blk.nr_devices=0 kasan_multi_shot"

# How many objects a whole build makes, and the seconds that it may take where nobody else is at work; beside three VMs on
# two processors it took 4400.
DEBUG_OBJECTS=1700
DEBUG_BUILD_S=1800

# Sources that this configuration never compiles.
DEBUG_UNNEEDED=(
	'*/Documentation/*.rst' '*/Documentation/*.yaml' '*/Documentation/*.svg' '*/tools/testing/*' '*/tools/perf/*'
	'*/arch/[!x]*/*.[chS]' '*/arch/[!x]*/*.dts*' '*/arch/xtensa/*.[chS]' '*/sound/*.[ch]'
	'*/drivers/net/'{ethernet,wireless}'/*.[ch]'
	'*/drivers/'{gpu,media,staging,infiniband,usb,iio,pinctrl,accel}'/*.[ch]'
)

# debug_kernel: where the debug kernel for RELEASE is, or will be.
debug_kernel() {
	local key
	key=$( (printf '%s\n' "${LAB##*/}" "$DEBUG_RECIPE" "${DEBUG_UNNEEDED[@]}" && cat "$DEBUG_CONFIG") |
		sha256sum | cut -c 1-8)
	printf '%s/debug-%s_%s-%s\n' "$ENBD_CACHE" "$RELEASE" "${VERSION//:/}" "$key"
}

# debug_build_seconds: what is left of its build may take so long.
debug_build_seconds() {
	local made=0
	[[ ! -d $(debug_kernel).unfinished ]] || made=$(find "$(debug_kernel).unfinished" -name '*.o' | wc -l)
	((made < DEBUG_OBJECTS)) || made=$DEBUG_OBJECTS
	echo $((60 + DEBUG_BUILD_S * (DEBUG_OBJECTS - made) / DEBUG_OBJECTS))
}

# ensure_debug_kernel: builds the debug kernel if needed, and sets KDIR and BOOT; RELEASE becomes what it calls itself.
ensure_debug_kernel() {
	local key
	KDIR=$(debug_kernel)
	[[ -d $KDIR ]] || with_lock "${KDIR##*/}" make_debug_kernel "$KDIR" "$KDIR.unfinished"
	RELEASE=$(<"$KDIR/include/config/kernel.release")
	key=$(sha256sum "$ENBD_REPO/scripts/guest/initramfs-init" | cut -c 1-8)
	BOOT=$ENBD_CACHE/boot-${KDIR##*/}-$key
	cached "$BOOT" make_debug_boot
}

# make_debug_kernel DIR UNFINISHED: an interrupted build goes on where it was; only a finished one gets DIR's name.
make_debug_kernel() {
	local dir=$2
	[[ ! -d $1 ]] || return 0
	find "$ENBD_CACHE" -mindepth 1 -maxdepth 1 -name 'debug-*.unfinished' -mtime +1 -exec rm -rf {} +
	need_space 6000 "the debug kernel"
	[[ -f $dir/.enbd-unpacked ]] || fetch_debug_source "$dir"
	[[ -f $dir/.enbd-configured ]] || configure_debug_kernel "$dir"
	progress "building the debug kernel (10 to 40 minutes, once)" in_lab "${DEBUG_MAKE[@]}" -C "$dir" bzImage modules
	mv "$dir" "$1"
}

fetch_debug_source() {
	local dir=$1 source
	source=linux-source-$(cut -d . -f 1,2 <<<"$RELEASE")
	rm -rf --one-file-system "$dir" "$dir.debs"
	mkdir "$dir"
	progress "fetching $source, $VERSION" fetch_debs "$dir.debs" "$source=$VERSION"
	progress "unpacking $source" in_lab tar --extract --xz --file "$dir.debs/usr/src/$source.tar.xz" \
		--directory "$dir" --strip-components=1 --no-same-owner --wildcards "${DEBUG_UNNEEDED[@]/#/--exclude=}"
	rm -rf "$dir.debs"
	: >"$dir/.enbd-unpacked"
}

# configure_debug_kernel DIR: an option that Kconfig did not take is an error: a checker that is not there finds nothing.
configure_debug_kernel() {
	local dir=$1 refused
	cp "$DEBUG_CONFIG" "$dir/.enbd-config"
	progress "configuring the debug kernel" \
		in_lab "${DEBUG_MAKE[@]}" -C "$dir" KCONFIG_ALLCONFIG="$dir/.enbd-config" allnoconfig
	refused=$(grep -E '^CONFIG_.*=[^n]' "$dir/.enbd-config" | grep -vxFf "$dir/.config" || true)
	[[ ! $refused ]] || die "the debug kernel cannot have ${refused//$'\n'/ }"
	: >"$dir/.enbd-configured"
}

make_debug_boot() {
	local modules=$1/lib/modules/$RELEASE
	mkdir -p "$modules/kernel" "$modules/extra"
	cp "$KDIR/arch/x86/boot/bzImage" "$1/vmlinuz"
	in_lab "${DEBUG_MAKE[@]}" -C "$KDIR" INSTALL_MOD_PATH="$1" modules_install >/dev/null
	make_initramfs "$1"
	in_lab mke2fs -q -F -t ext4 -m 0 -O ^has_journal -E root_owner=0:0 -d "$modules" "$1/modules.img" 32M
}

# build_debug_module: MODULE, an enbd.ko for the debug kernel, in a copy of the sources: Kbuild writes beside them.
build_debug_module() {
	local name
	name=module-${KDIR##*/}-$(repo_key)
	MODULE=$ENBD_CACHE/$name/enbd.ko
	# shellcheck disable=SC2034 # read by add_module
	MODULE_LOCK=$ENBD_CACHE/locks/$name
	with_lock "$name" make_debug_module "${MODULE%/*}"
}

make_debug_module() {
	local log
	mkdir -p "$1"
	in_lab rsync -rlt --delete --exclude='*.o' --exclude='*.ko' --exclude='*.cmd' --exclude='*.mod' --exclude='*.mod.c' \
		--exclude='.*.d' --exclude='*.rmeta' --exclude=bindings_generated.rs --exclude=Module.symvers \
		--exclude=modules.order "$ENBD_REPO/Kbuild" "$ENBD_REPO/rust" "$1/"
	if ! log=$(in_lab "${DEBUG_MAKE[@]}" -C "$KDIR" M="$1" 2>&1); then
		printf '%s\n' "$log" >&2
		die "enbd.ko cannot be built for the debug kernel, see above"
	fi
}
