//! Giving memory back to the operating system.
//!
//! A model is many blocks of a few megabytes, and glibc keeps such blocks for later once they are freed: half of the
//! model would stay. Other allocators need no telling.

/// Gives back what was freed, where the allocator would keep it.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: `int malloc_trim(size_t)` is glibc's own, may be called on any thread at any time, and touches no
        // memory that is in use.
        unsafe { malloc_trim(0) };
    }
}
