// SPDX-License-Identifier: GPL-2.0

//! Files in /proc.
//!
//! A file can be polled: who has read it, or opened it, is told once there is something new to read.
//!
//! C header: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h)

use super::{bindings, poll::PollQueue};
use core::{marker::PhantomData, ptr};
use kernel::{
    error::from_result,
    ffi,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc,
    },
    types::{ForeignOwnable, ScopeGuard},
    uaccess::{UserPtr, UserSlice},
};

/// A text file that is made when it is read, and takes commands.
pub(crate) trait TextFile: Send + Sync + 'static {
    /// Writes the text for who has opened the file. May be called again, when the text did not fit.
    fn show(&self, out: &SeqFile, opener: Opener<'_>) -> Result;

    /// Whether a write of `len` bytes may be looked at, in the context of the writer, who need not
    /// be the one who has opened the file.
    fn admit(&self, opener: Opener<'_>, len: usize) -> Result;

    /// Takes what was written, in the context of the writer.
    fn write(&self, text: &[u8]) -> Result;

    /// A number that is another one after each change of the text that a reader may wait for.
    fn changes(&self) -> u64;

    /// Who waits for such a change, and is to be woken up after the number has changed.
    fn pollers(&self) -> &PollQueue;
}

/// Whoever has opened a file.
///
/// # Invariants
///
/// `0` is an open file, which stays open for `'a`.
pub(crate) struct Opener<'a>(*const bindings::file, PhantomData<&'a bindings::file>);

impl Opener<'_> {
    /// Whether he could administer the system when he opened the file.
    pub(crate) fn is_admin(&self) -> bool {
        // SAFETY: The file is open by the type invariant, and the first user namespace is always
        // there.
        unsafe {
            bindings::file_ns_capable(
                self.0,
                &raw mut bindings::init_user_ns,
                bindings::CAP_SYS_ADMIN as i32,
            )
        }
    }
}

/// A file in /proc. Dropping it takes it away and waits for those who use it.
///
/// # Invariants
///
/// `entry` was created with `data`, which came from `Arc::<T>::into_foreign`.
pub(crate) struct ProcFile<T: TextFile> {
    entry: *mut bindings::proc_dir_entry,
    data: *mut ffi::c_void,
    _data: PhantomData<Arc<T>>,
}

// SAFETY: It owns an `Arc<T>`, and `T` is `Send` and `Sync`; the entry may be removed on any
// thread.
unsafe impl<T: TextFile> Send for ProcFile<T> {}
// SAFETY: `&ProcFile` gives access to nothing.
unsafe impl<T: TextFile> Sync for ProcFile<T> {}

impl<T: TextFile> ProcFile<T> {
    const OPS: &'static bindings::proc_ops = &bindings::proc_ops {
        proc_open: Some(Self::open),
        proc_read_iter: Some(bindings::seq_read_iter),
        proc_lseek: Some(bindings::seq_lseek),
        proc_release: Some(bindings::single_release),
        proc_write: Some(Self::write),
        proc_poll: Some(Self::poll),
        ..pin_init::zeroed()
    };

    /// Creates /proc/`name`, which everybody may read.
    pub(crate) fn new(name: &CStr, file: Arc<T>) -> Result<Self> {
        let data = file.into_foreign();
        // SAFETY: Runs only where the entry was not made.
        let free = ScopeGuard::new(|| drop(unsafe { Arc::<T>::from_foreign(data) }));
        // SAFETY: The name is copied; `OPS` is constant and lives as long as the module, which
        // removes the entry.
        let entry = unsafe {
            bindings::proc_create_data(name.as_char_ptr(), 0o644, ptr::null_mut(), Self::OPS, data)
        };
        if entry.is_null() {
            return Err(ENOMEM);
        }
        free.dismiss();
        // INVARIANT: As made above.
        Ok(Self {
            entry,
            data,
            _data: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Only for procfs, with the inode of an entry made by `new`.
    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // SAFETY: By the safety requirements of this function.
        let opened = unsafe {
            let data = bindings::enbd_inode_pde_data(inode);
            bindings::single_open(file, Some(Self::show), data)
        };
        if opened == 0 {
            // SAFETY: `single_open` made the `seq_file`, with the data of the entry, which stays until
            // that is removed.
            unsafe {
                let seq = (*file).private_data.cast::<bindings::seq_file>();
                let this = Arc::<T>::borrow((*seq).private);
                seen(seq).store(this.changes() as i32, Relaxed);
            }
        }
        opened
    }

    /// # Safety
    ///
    /// Only for procfs, with a file that `open` opened.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: As in `show`; `single_open` made the `seq_file`.
        let (this, seen) = unsafe {
            let seq = (*file).private_data.cast::<bindings::seq_file>();
            (Arc::<T>::borrow((*seq).private), seen(seq))
        };
        // SAFETY: The file is open. Dropping the `ProcFile` empties the queue, so it is there as long
        // as the file may be polled.
        let is_going = unsafe { this.pollers().register(file, table) };
        // The number is looked at afterwards: who changes it wakes up the queue afterwards.
        if is_going {
            bindings::ENBD_POLL_PLAIN | bindings::ENBD_POLL_GONE
        } else if seen.load(Relaxed) != this.changes() as i32 {
            bindings::ENBD_POLL_PLAIN | bindings::ENBD_POLL_CHANGED
        } else {
            bindings::ENBD_POLL_PLAIN
        }
    }

    /// # Safety
    ///
    /// Only for seq_file, with a file that `open` opened.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut ffi::c_void) -> ffi::c_int {
        // SAFETY: By the safety requirements of this function `private` is what `open` gave, which
        // stays until the entry is removed; that waits for us.
        let this = unsafe { Arc::<T>::borrow((*seq).private) };
        // Before the text: what changes meanwhile is news.
        // SAFETY: Valid for this call.
        unsafe { seen(seq) }.store(this.changes() as i32, Relaxed);
        // SAFETY: `seq_open` has set `file`. INVARIANT: It is being read, so it stays open.
        let opener = Opener(unsafe { (*seq).file }, PhantomData);
        // SAFETY: Valid for this call.
        let seq = unsafe { SeqFile::from_raw(seq) };
        from_result(|| this.show(seq, opener).map(|()| 0))
    }

    /// # Safety
    ///
    /// Only for procfs, with a file that `open` opened.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buf: *const ffi::c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: As in `show`; `single_open` made the `seq_file`.
        let this = unsafe {
            let seq = (*file).private_data.cast::<bindings::seq_file>();
            Arc::<T>::borrow((*seq).private)
        };
        // INVARIANT: It is being written to, so it stays open.
        let opener = Opener(file, PhantomData);
        let take = || -> Result<isize> {
            this.admit(opener, len)?;
            let mut text = KVec::new();
            let user = UserPtr::from_ptr(buf.cast_mut().cast());
            UserSlice::new(user, len).read_all(&mut text, GFP_KERNEL)?;
            this.write(&text)?;
            Ok(len as isize)
        };
        from_result(take)
    }
}

impl<T: TextFile> Drop for ProcFile<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the data is there.
        let file = unsafe { Arc::<T>::borrow(self.data) };
        file.pollers().close();
        // SAFETY: By the type invariant. Waits for running callbacks and closes open files.
        unsafe { bindings::proc_remove(self.entry) };
        // SAFETY: By the type invariant; nobody uses the data any more.
        drop(unsafe { Arc::<T>::from_foreign(self.data) });
    }
}

/// The number of [`TextFile::changes`] that who has opened a file was shown last.
///
/// # Safety
///
/// `seq` is valid for `'a`, and `poll_event` is used through this alone.
unsafe fn seen<'a>(seq: *mut bindings::seq_file) -> &'a Atomic<i32> {
    // SAFETY: By the safety requirements of this function.
    unsafe { Atomic::from_ptr(&raw mut (*seq).poll_event) }
}

/// Whether the current task may administer the system.
pub(crate) fn is_admin() -> bool {
    // SAFETY: Looks at the current task's credentials.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as i32) }
}
