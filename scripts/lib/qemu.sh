# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# How a VM is started: accelerator, processor, disks, channels.

# ensure_accelerator: sets ACCELERATOR to kvm where it can really run a stock kernel, else to tcg. A /dev/kvm that exists proves nothing (nested
# virtualisation may stop at the first odd instruction), so a kernel is booted once per boot of the host.
ensure_accelerator() {
	local answer
	ACCELERATOR=tcg
	[[ -r /dev/kvm && -w /dev/kvm ]] || return 0
	answer=$ENBD_CACHE/known/kvm-$(</proc/sys/kernel/random/boot_id)
	[[ -f $answer ]] || with_lock kvm try_kvm "$answer"
	ACCELERATOR=$(<"$answer")
}

try_kvm() {
	local log pid
	[[ ! -f $1 ]] || return 0
	say "trying /dev/kvm with a real boot"
	log=$(mktemp "$ENBD_CACHE/run/log.XXXXXX")
	qemu "$BOOT" -accel kvm -cpu host -m 512M -append "console=ttyS0 panic=-1 enbd.probe" \
		-serial "file:$log" >/dev/null 2>&1 </dev/null &
	pid=$!
	wait_at_most 20 "$pid" || kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	rm -f "$ENBD_CACHE"/known/kvm-*
	if grep -q 'enbd-probe: up' "$log"; then echo kvm; else echo tcg; fi >"$1"
	say "VMs will run under $(<"$1")"
	rm -f "$log"
}

# mortal COMMAND...: becomes COMMAND, which dies with the process that started it, whatever kills that.
mortal() {
	exec setpriv --pdeathsig KILL "$@"
}

# wait_at_most SECONDS PID: false if PID still runs after that.
wait_at_most() {
	local first
	mortal sleep "$1" &
	TIMER=$!
	wait -n -p first "$2" "$TIMER" || true
	kill "$TIMER" 2>/dev/null || true
	[[ $first == "$2" ]]
}

# qemu DIR OPTION...: becomes QEMU, with the kernel in DIR.
qemu() {
	local dir=$1
	shift
	mortal "$ENBD_REPO/scripts/lab-run" qemu-system-x86_64 -nodefaults -no-user-config \
		-machine q35,hpet=off -display none -no-reboot -kernel "$dir/vmlinuz" -initrd "$dir/initramfs.cpio" "$@"
}

# Sets PROCESSOR, the options that decide how fast the VM is and what its clock means.
processor_options() {
	local cpus=${VM_CPUS:-2}
	PROCESSOR=(-m "${VM_MEM:-2G}")
	if [[ ${VM_ICOUNT:-} ]]; then
		# Guest time counts instructions: a ruler for cost, the same on every machine.
		PROCESSOR+=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -smp 1 -cpu Haswell)
	elif [[ $ACCELERATOR == kvm && ! ${VM_TCG:-} ]]; then
		PROCESSOR+=(-accel kvm -cpu host -smp "$cpus")
	else
		PROCESSOR+=(-accel "tcg,thread=multi" -cpu Haswell -smp "$cpus")
	fi
}

# disk_options SERIAL FILE SNAPSHOT READ_ONLY: a disk that the initramfs finds by its serial number.
disk_options() {
	DISKS+=(-drive "file=$2,format=raw,if=none,id=$1,snapshot=$3,read-only=$4"
		-device "virtio-blk-pci,drive=$1,serial=$1")
}

# port_options NAME FILE: a channel out of the VM. To a file and not to a pipe: the guest's driver spins until the host
# has taken what was written, so a reader that is slow, or stopped, would look like a lockup.
port_options() {
	PORTS+=(-chardev "file,id=$1,path=$2" -device "virtserialport,chardev=$1,name=$1")
}
