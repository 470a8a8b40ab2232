//! Mappings of files and of memory files, with their seals.

use crate::prelude::*;

const RW: i32 = PROT_READ | PROT_WRITE;

fn file(len: usize) -> i32 {
    let data: Vec<u8> = (0..len).map(|i| (i / PAGE as usize + 1) as u8).collect();
    put(c"f", data);
    open(c"f", O_RDWR, 0).fd()
}
fn map(fd: i32, flags: i32, pages: u64) -> u64 {
    mmap(0, pages * PAGE, RW, flags, fd, 0).addr()
}
fn memfd(flags: u32) -> i32 {
    sc!(SYS_memfd_create, c"name", flags).fd()
}

fn shared_mapping_writes_the_file() {
    let fd = file(8192);
    let a = map(fd, MAP_SHARED, 2);
    p!(peek(a), peek(a + PAGE), poke(a + PAGE, 77), pread(fd, 1, PAGE as i64));
    p!(pwrite(fd, "q", 0), peek(a) == Touch::Value(b'q'), munmap(a, 2 * PAGE));
    p!(get(c"f").bytes()[4096]);
}

fn private_mapping_does_not() {
    let fd = file(4096);
    let a = map(fd, MAP_PRIVATE, 1);
    p!(poke(a, 77), pread(fd, 1, 0), peek(a));
}

fn private_mapping_sees_the_file_until_written() {
    let fd = file(8192);
    let a = map(fd, MAP_PRIVATE, 2);
    p!(poke(a, 77), pwrite(fd, "zz", PAGE as i64), peek(a + PAGE) == Touch::Value(b'z'), peek(a));
}

fn offset_mapping() {
    let fd = file(3 * 4096);
    let a = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE as i64).addr();
    p!(peek(a), peek(a + 4095), poke(a, 1));
}

fn beyond_the_end_is_sigbus() {
    let fd = file(100);
    let a = map(fd, MAP_SHARED, 2);
    p!(peek(a + 99), peek(a + 100), peek(a + 4095), peek(a + PAGE), poke(a + PAGE, 1));
}

fn private_beyond_the_end_is_sigbus() {
    let fd = file(100);
    let a = map(fd, MAP_PRIVATE, 2);
    p!(poke(a + 200, 1), peek(a + PAGE), poke(a + PAGE, 1));
}

fn kernel_access_beyond_the_end_is_efault() {
    let fd = file(100);
    let a = map(fd, MAP_SHARED, 2);
    let fds = pipe(0);
    p!(sc!(SYS_write, fds[1], a + PAGE, 1), wr(fds[1], "x"), sc!(SYS_read, fds[0], a + PAGE, 1));
}

fn truncation_under_a_mapping() {
    let fd = file(8192);
    let a = map(fd, MAP_SHARED, 2);
    p!(peek(a + PAGE), ftruncate(fd, 4096), peek(a + PAGE), peek(a));
    p!(ftruncate(fd, 8192), peek(a + PAGE));
}

fn truncation_discards_private_copies() {
    let fd = file(8192);
    let a = map(fd, MAP_PRIVATE, 2);
    p!(poke(a + PAGE, 9), ftruncate(fd, 4096), peek(a + PAGE));
    p!(ftruncate(fd, 8192), peek(a + PAGE));
}

fn memory_file_under_mappings() {
    let fd = memfd(0);
    p!(wr(fd, vec![7; 4 * 4096]));
    let (shared, private) = (map(fd, MAP_SHARED, 4), map(fd, MAP_PRIVATE, 4));
    let all = |a: u64| [0, 1, 2, 3].map(|page| peek(a + page * PAGE).to_string()).join(" ");
    p!(poke(private + 2 * PAGE, 9), pwrite(fd, "z", PAGE as i64), all(private));
    p!(ftruncate(fd, 2 * 4096 + 100), all(shared), all(private));
    p!(ftruncate(fd, 4096), all(shared), all(private), fstat(fd).st.st_blocks);
    p!(ftruncate(fd, 4 * 4096), all(shared), all(private), poke(shared + 3 * PAGE, 5));
    p!(all(private), pread(fd, 1, 3 * PAGE as i64));
}

fn holes_under_mappings() {
    let fd = memfd(0);
    p!(wr(fd, vec![7; 4 * 4096]));
    let (shared, private) = (map(fd, MAP_SHARED, 4), map(fd, MAP_PRIVATE, 4));
    let all = |a: u64| [0, 1, 2, 3].map(|page| peek(a + page * PAGE).to_string()).join(" ");
    p!(poke(private + PAGE, 9), poke(shared + 2 * PAGE, 8), all(private));
    let mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    p!(sc!(SYS_fallocate, fd, mode, 100, 3 * 4096), fstat(fd).st.st_blocks);
    p!(all(shared), all(private), poke(shared + PAGE, 4), pread(fd, 2, PAGE as i64));
    p!(all(private), peek(shared + 99), peek(shared + 100));
}

fn truncation_by_another_process() {
    let fd = file(2 * 4096);
    let (shared, private) = (map(fd, MAP_SHARED, 2), map(fd, MAP_PRIVATE, 2));
    p!(poke(private + PAGE, 9));
    // What a child has inherited goes, too, and what its parent has.
    p!(run(|| {
        poke(private + PAGE, 10);
        run(|| ftruncate(fd, 4096).errno());
        let gone = |a| i32::from(!matches!(peek(a), Touch::Value(_)));
        gone(shared + PAGE) + 2 * gone(private + PAGE) + 4 * gone(private)
    }));
    p!(peek(shared + PAGE), peek(private + PAGE), peek(shared), peek(private));
    p!(open(c"f", O_RDWR | O_TRUNC, 0).ok(), peek(shared), peek(private));
}

fn futex_of_a_page_that_is_made_anew() {
    let fd = memfd(0);
    ftruncate(fd, 4096);
    let a = map(fd, MAP_SHARED, 1);
    let pid = child(|| sc!(SYS_futex, a, FUTEX_WAIT, 0, 0u64).errno());
    while sc!(SYS_futex, a, FUTEX_WAKE, 1).0 == 0 {
        let mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        sc!(SYS_fallocate, fd, mode, 0u64, 4096u64);
    }
    p!(wait(pid));
}

fn growth_makes_pages_accessible() {
    let fd = file(10);
    let a = map(fd, MAP_SHARED, 3);
    p!(peek(a + 2 * PAGE), ftruncate(fd, 3 * 4096), poke(a + 2 * PAGE, 3), pread(fd, 1, 8192));
}

fn tail_of_last_page_is_zeroed_when_growing() {
    let fd = file(100);
    let a = map(fd, MAP_SHARED, 1);
    p!(poke(a + 200, 7), ftruncate(fd, 50), ftruncate(fd, 300), pread(fd, 1, 200));
    p!(fstat(fd).st.st_size);
}

fn mapping_outlives_the_descriptor_and_the_name() {
    let fd = file(4096);
    let a = map(fd, MAP_SHARED, 1);
    p!(close(fd), unlink(c"f"), peek(a), poke(a, 5), peek(a));
}

fn two_shared_mappings_agree() {
    let fd = file(4096);
    let (a, b) = (map(fd, MAP_SHARED, 1), map(fd, MAP_SHARED, 1));
    p!(a != b, poke(a, 66), peek(b));
}

fn mapping_is_shared_between_processes() {
    let fd = file(4096);
    let a = map(fd, MAP_SHARED, 1);
    p!(run(|| {
        let own = open(c"f", O_RDWR, 0).fd();
        poke(map(own, MAP_SHARED, 1), 99);
        0
    }));
    p!(peek(a));
}

fn permissions_of_the_descriptor() {
    file(4096);
    let (ro, wo) = (open(c"f", O_RDONLY, 0).fd(), open(c"f", O_WRONLY, 0).fd());
    p!(mmap(0, PAGE, RW, MAP_SHARED, ro, 0), mmap(0, PAGE, RW, MAP_PRIVATE, ro, 0).ok());
    p!(mmap(0, PAGE, PROT_READ, MAP_SHARED, wo, 0), mmap(0, PAGE, PROT_WRITE, MAP_PRIVATE, wo, 0));
    let a = mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 0).addr();
    p!(mprotect(a, PAGE, RW), mmap(0, PAGE, PROT_READ, MAP_SHARED, open(c"f", O_PATH, 0).fd(), 0));
}

fn what_cannot_be_mapped() {
    let fds = pipe(0);
    p!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fds[0], 0));
    p!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, open(c".", O_RDONLY, 0).fd(), 0));
    p!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, pair(SOCK_STREAM)[0], 0));
    p!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, epoll(0), 0));
}

fn dev_zero_mappings() {
    let fd = open(c"/dev/zero", O_RDWR, 0).fd();
    let (a, b) = (map(fd, MAP_PRIVATE, 1), map(fd, MAP_SHARED, 1));
    p!(peek(a), poke(a, 1), peek(b), poke(b, 2));
    p!(run(|| {
        poke(b, 3);
        0
    }));
    p!(peek(b), pread(fd, 1, 0));
}

fn map_shared_validate_refuses_unknown_flags() {
    let fd = file(4096);
    p!(mmap(0, PAGE, RW, MAP_SHARED_VALIDATE, fd, 0).ok());
    p!(mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
}

fn read_into_a_mapping_of_the_same_file() {
    let fd = file(8192);
    let a = map(fd, MAP_SHARED, 2);
    p!(sc!(SYS_pread64, fd, a, 4096, 4096), peek(a), sc!(SYS_pwrite64, fd, a, 1, 8191));
    p!(peek(a + 8191));
}

fn memfd_basics() {
    let fd = memfd(0);
    p!(wr(fd, "hello"), pread(fd, 10, 0), fstat(fd), fcntl(fd, F_GETFD, 0));
    p!(fcntl(memfd(MFD_CLOEXEC), F_GETFD, 0), fcntl(fd, F_GETFL, 0).0 & 3);
    p!(sc!(SYS_memfd_create, c"x", 0x4000u32), sc!(SYS_memfd_create, 0u64, 0));
    let long = CString::new("n".repeat(250)).unwrap_or_default();
    p!(sc!(SYS_memfd_create, &long, 0));
    ok!(sc!(SYS_memfd_create, c"", 0));
}

fn memfd_sharing_across_fork() {
    let fd = memfd(0);
    ftruncate(fd, 4096);
    let a = map(fd, MAP_SHARED, 1);
    p!(run(|| {
        pwrite(fd, "kid", 0);
        poke(a + 3, b'!');
        0
    }));
    p!(pread(fd, 4, 0));
}

fn seals_need_permission() {
    let plain = memfd(0);
    p!(fcntl(plain, F_GET_SEALS, 0), fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    let fd = memfd(MFD_ALLOW_SEALING);
    p!(fcntl(fd, F_GET_SEALS, 0), fcntl(fd, F_ADD_SEALS, 0x1000), fcntl(1, F_GET_SEALS, 0));
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

fn seal_write() {
    let fd = memfd(MFD_ALLOW_SEALING);
    wr(fd, "data");
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), wr(fd, "x"), pwrite(fd, "x", 0), pread(fd, 4, 0));
    p!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0), mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0).ok());
    p!(ftruncate(fd, 2), ftruncate(fd, 100), sc!(SYS_fallocate, fd, 3, 0u64, 10u64));
}

fn seal_write_with_a_writable_mapping() {
    let fd = memfd(MFD_ALLOW_SEALING);
    ftruncate(fd, 4096);
    let a = map(fd, MAP_SHARED, 1);
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), munmap(a, PAGE));
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), fcntl(fd, F_GET_SEALS, 0));
}

fn seal_write_with_other_mappings() {
    let fd = memfd(MFD_ALLOW_SEALING);
    ftruncate(fd, 4096);
    let (private, reading) = (map(fd, MAP_PRIVATE, 1), mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    p!(poke(private, 1), fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), munmap(reading.addr(), PAGE));
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), poke(private, 2), peek(private));
}

fn seal_shrink_and_grow() {
    let fd = memfd(MFD_ALLOW_SEALING);
    ftruncate(fd, 4096);
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), ftruncate(fd, 100), ftruncate(fd, 8192));
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), ftruncate(fd, 9000), pwrite(fd, "ab", 8191));
    p!(fstat(fd).st.st_size, sc!(SYS_fallocate, fd, 0, 0u64, 10000u64));
}

fn seal_future_write() {
    let fd = memfd(MFD_ALLOW_SEALING);
    ftruncate(fd, 4096);
    let a = map(fd, MAP_SHARED, 1);
    p!(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), poke(a, 65), wr(fd, "x"));
    p!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0), mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0).ok());
    p!(pread(fd, 1, 0));
}

fn exec_of_a_memfd() {
    let fd = memfd(MFD_CLOEXEC);
    let me = get_all(&me());
    p!(me.len() > 1000, wr(fd, &me).0 == me.len() as i64);
    p!(run(|| {
        let args = strings(&["prog", "helper", "exit", "9"]);
        let argv = pointers(&args);
        sc!(SYS_execveat, fd, c"", at(&*argv), at(&[0u64]), AT_EMPTY_PATH).errno()
    }));
}

fn get_all(path: &CStr) -> Vec<u8> {
    let fd = open(path, O_RDONLY, 0);
    let mut all = Vec::new();
    loop {
        let part = rd(fd, 1 << 20);
        if part.bytes().is_empty() {
            return all;
        }
        all.extend_from_slice(part.bytes());
    }
}

fn memory_file_holes() {
    let fd = memfd(0);
    p!(pwrite(fd, "end", 1 << 20), fstat(fd).st.st_size, pread(fd, 4, 5000));
    p!(lseek(fd, 0, SEEK_DATA), lseek(fd, 1 << 20, SEEK_HOLE), lseek(fd, 2 << 20, SEEK_DATA));
    p!(sc!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 1));
    p!(pread(fd, 3, 1 << 20), fstat(fd).st.st_size);
}

cases![
    shared_mapping_writes_the_file,
    private_mapping_does_not,
    private_mapping_sees_the_file_until_written,
    offset_mapping,
    beyond_the_end_is_sigbus,
    private_beyond_the_end_is_sigbus,
    kernel_access_beyond_the_end_is_efault,
    truncation_under_a_mapping,
    truncation_discards_private_copies,
    memory_file_under_mappings,
    holes_under_mappings,
    truncation_by_another_process,
    futex_of_a_page_that_is_made_anew,
    growth_makes_pages_accessible,
    tail_of_last_page_is_zeroed_when_growing,
    mapping_outlives_the_descriptor_and_the_name,
    two_shared_mappings_agree,
    mapping_is_shared_between_processes,
    permissions_of_the_descriptor,
    what_cannot_be_mapped,
    dev_zero_mappings,
    map_shared_validate_refuses_unknown_flags,
    read_into_a_mapping_of_the_same_file,
    memfd_basics,
    memfd_sharing_across_fork,
    seals_need_permission,
    seal_write,
    seal_write_with_a_writable_mapping,
    seal_write_with_other_mappings,
    seal_shrink_and_grow,
    seal_future_write,
    exec_of_a_memfd,
    memory_file_holes,
];
