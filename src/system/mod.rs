//! What the init asks of the kernel. [`linux`] makes every system call and holds every `unsafe`.

pub mod linux;
