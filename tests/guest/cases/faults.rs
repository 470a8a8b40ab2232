//! Faults as signals, resuming from them, and what survives a handler; permissions of kill and
//! stopping.

use crate::prelude::*;

fn each_fault_kills() {
    for f in [
        Fault::Undefined,
        Fault::Breakpoint,
        Fault::Divide,
        Fault::Null,
        Fault::Privileged,
        Fault::NonCanonical,
    ] {
        p!(run(|| {
            fault(f);
            0
        }));
    }
}

fn each_fault_can_be_caught_and_skipped() {
    for (f, sig, len) in [
        (Fault::Undefined, SIGILL, 2),
        (Fault::Breakpoint, SIGTRAP, 0),
        (Fault::Divide, SIGFPE, 2),
        (Fault::Null, SIGSEGV, 2),
        (Fault::Privileged, SIGSEGV, 1),
        (Fault::NonCanonical, SIGSEGV, 2),
    ] {
        catch_with(sig, 0, 0, Extra::Skip(len));
        fault(f);
        let all = hits();
        say!("{} addr {:#x}", all[0], if f as u8 == Fault::Null as u8 { all[0].addr } else { 0 });
    }
}

fn fault_addresses() {
    let page = anon(1);
    mprotect(page, PAGE, PROT_NONE);
    p!(peek(page + 123), poke(page + 4095, 1), peek(0x1234_5678_9000));
    let code = anon(1);
    fill(code, &[0x0f, 0x0b, 0xc3]);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    p!(call(code));
}

fn time_stamp_counter_can_be_forbidden() {
    let code = anon(1);
    // rdtsc; xor eax, eax; ret
    fill(code, &[0x0f, 0x31, 0x31, 0xc0, 0xc3]);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    let set = |mode: i32| sc!(SYS_prctl, PR_SET_TSC, mode, 0u64, 0u64, 0u64);
    let get = || {
        let mut mode = -1_i32;
        let result = sc!(SYS_prctl, PR_GET_TSC, at_mut(&mut mode), 0u64, 0u64, 0u64);
        format!("{result} {mode}")
    };
    p!(call(code), get(), set(0), set(3), set(-1));
    p!(sc!(SYS_prctl, PR_GET_TSC, 8u64, 0u64, 0u64, 0u64));
    p!(run(|| {
        p!(set(2), get(), call(code), call(code));
        // Children and threads inherit it, and decide for themselves; so do programs.
        p!(run(|| {
            p!(get(), call(code), set(1), get(), call(code));
            0
        }));
        let thread = std::thread::spawn(move || p!(get(), call(code), set(1), call(code)));
        p!(thread.join().is_ok(), get(), call(code));
        for _ in 0..4 {
            p!(run(|| i32::from(matches!(call(code), Touch::Value(_)))));
        }
        p!(helper(&["tsc"]));
        p!(set(1), get(), call(code));
        0
    }));
    p!(get(), call(code));
}

fn fault_in_a_blocked_signal_kills() {
    p!(run(|| {
        catch(SIGSEGV, 0);
        block(&[SIGSEGV]);
        fault(Fault::Null);
        0
    }));
    p!(run(|| {
        ignore(SIGSEGV);
        fault(Fault::Null);
        0
    }));
}

fn fault_in_its_own_handler_kills() {
    p!(run(|| {
        // The handler returns to the same instruction, which must not spin: the second time it is
        // the default action.
        catch(SIGSEGV, SA_RESETHAND);
        fault(Fault::Null);
        0
    }));
}

fn handler_unprotects_and_retries() {
    let page = anon(1);
    mprotect(page, PAGE, PROT_NONE);
    catch_with(SIGSEGV, 0, 0, Extra::Unprotect);
    fill(page + 8, b"after");
    p!(caught(), copy(page + 8, 5).escape_ascii().to_string());
}

fn many_faults_in_a_row() {
    let pages = anon(64);
    mprotect(pages, 64 * PAGE, PROT_READ);
    catch_with(SIGSEGV, 0, 0, Extra::Unprotect);
    for i in 0..64 {
        fill(pages + i * PAGE, &[i as u8]);
    }
    p!(hits().len(), peek(pages + 63 * PAGE));
}

extern "C" fn null() {
    fault(Fault::Null);
}
extern "C" fn self_signal() {
    raise(SIGUSR1);
}

fn long_jump_out_of_a_fault() {
    catch_with(SIGSEGV, SA_NODEFER, 0, Extra::Throw);
    for _ in 0..3 {
        p!(attempt(null), caught());
    }
}

fn long_jump_leaves_the_mask_alone() {
    catch_with(SIGUSR1, 0, 0, Extra::Throw);
    p!(attempt(self_signal), names(sigmask(SIG_BLOCK, 0)));
    unblock(&[SIGUSR1]);
    p!(attempt(self_signal), caught());
}

fn long_jump_off_the_alternate_stack() {
    altstack(16384, 0);
    catch_with(SIGUSR1, SA_ONSTACK | SA_NODEFER, 0, Extra::Throw);
    p!(attempt(self_signal), attempt(self_signal), caught());
}

fn alternate_stack_overflow_kills() {
    p!(run(|| {
        sc!(SYS_sigaltstack, at(&[8u64 << 12, 0, 16384]), 0u64);
        catch(SIGUSR1, SA_ONSTACK);
        raise(SIGUSR1);
        0
    }));
}

fn floating_point_state_survives_handlers() {
    catch_with(SIGUSR1, 0, 0, Extra::Clobber);
    p!((0..20).all(|_| fp_survives(SIGUSR1)), hits().len());
}

fn floating_point_state_survives_a_timer_storm() {
    catch_with(SIGALRM, SA_RESTART, 0, Extra::Clobber);
    setitimer(ITIMER_REAL, 1, 1);
    let mut x = 1.0f64;
    let mut rounds = 0u64;
    until(|| {
        for i in 0..10_000 {
            x = (x * 1.000_001 + f64::from(i)).sqrt();
        }
        rounds += 1;
        count() > 20
    });
    setitimer(ITIMER_REAL, 0, 0);
    let mut y = 1.0f64;
    for _ in 0..rounds {
        for i in 0..10_000 {
            y = (y * 1.000_001 + f64::from(i)).sqrt();
        }
    }
    p!(x == y);
}

fn floating_point_state_survives_fork() {
    ignore(SIGUSR1);
    p!(fp_survives(SIGUSR1), run(|| i32::from(!fp_survives(SIGUSR1))));
}

fn fork_inherits_handlers_and_mask_but_not_pending() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR2]);
    raise(SIGUSR2);
    p!(run(|| {
        raise(SIGUSR1);
        p!(caught(), names(sigmask(SIG_BLOCK, 0)), pending());
        0
    }));
}

fn kill_errors() {
    p!(kill(getpid(), 0), kill(getpid(), 65), kill(getpid(), -1), kill(0x7fff_fff0, 0));
    p!(kill(-0x7fff_fff0, 0), kill(i32::MIN, 0), kill(0, 0));
}

fn kill_permissions() {
    let victim = child(|| {
        sc!(SYS_pause);
        0
    });
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(kill(victim, 0), kill(victim, SIGTERM), kill(victim, SIGCONT), kill(getpid(), 0));
        0
    }));
    p!(kill(victim, SIGKILL), wait(victim));
}

fn kill_by_saved_or_real_uid() {
    let fds = pipe(0);
    let victim = child(|| {
        sc!(SYS_setresuid, 1001, 1002, 1003);
        wr(fds[1], "x");
        sc!(SYS_pause);
        0
    });
    rd(fds[0], 1);
    for uid in [1001, 1002, 1003, 1004] {
        p!(
            uid,
            run(|| {
                sc!(SYS_setresuid, uid, uid, uid);
                kill(victim, 0).errno()
            })
        );
    }
    p!(kill(victim, SIGKILL), wait(victim));
}

fn sigcont_is_allowed_within_the_session() {
    let fds = pipe(0);
    let victim = child(|| {
        sc!(SYS_setresuid, 1001, 1001, 1001);
        wr(fds[1], "x");
        sc!(SYS_pause);
        0
    });
    rd(fds[0], 1);
    p!(run(|| {
        sc!(SYS_setresuid, 1002, 1002, 1002);
        p!(kill(victim, SIGCONT), kill(victim, SIGTERM));
        sc!(SYS_setsid);
        p!(kill(victim, SIGCONT));
        0
    }));
    p!(kill(victim, SIGKILL), wait(victim));
}

fn kill_of_a_group() {
    let pids: Vec<i32> = (0..3)
        .map(|_| {
            child(|| {
                loop {
                    sc!(SYS_pause);
                }
            })
        })
        .collect();
    for &pid in &pids {
        sc!(SYS_setpgid, pid, pids[0]);
    }
    p!(kill(-pids[0], SIGTERM));
    p!(pids.iter().map(|&p| wait(p).to_string()).collect::<Vec<_>>().join(", "));
    p!(kill(-pids[0], 0));
}

fn kill_zero_reaches_the_own_group() {
    catch(SIGUSR1, 0);
    p!(run(|| {
        sc!(SYS_setpgid, 0, 0);
        kill(0, SIGUSR1);
        i32::from(caught() != "SIGUSR1 SI_USER")
    }));
    p!(caught());
}

fn kill_of_itself_is_immediate() {
    // At least one unblocked signal is delivered before kill returns.
    catch(SIGUSR1, 0);
    let all = (0..100).all(|_| {
        kill(getpid(), SIGUSR1);
        hits().len() == 1
    });
    p!(all);
}

fn continue_discards_pending_stops_and_the_reverse() {
    block(&[SIGTSTP, SIGCONT, SIGTTIN]);
    raise(SIGTSTP);
    raise(SIGTTIN);
    p!(pending());
    raise(SIGCONT);
    p!(pending());
    raise(SIGTSTP);
    p!(pending());
}

fn stopped_process_handles_signals_after_continuing() {
    let pid = child(|| {
        catch(SIGUSR1, 0);
        catch(SIGCONT, 0);
        raise(SIGSTOP);
        p!(until(|| count() == 2));
        let mut all: Vec<String> = hits().iter().map(|h| h.to_string()).collect();
        all.sort();
        say!("{}", all.join(", "));
        0
    });
    p!(wait_opt(pid, WUNTRACED), kill(pid, SIGUSR1), wait_opt(pid, WNOHANG | WUNTRACED));
    let (continued, status) = (kill(pid, SIGCONT), wait(pid));
    p!(continued, status);
}

fn sigpipe() {
    let fds = pipe(0);
    close(fds[0]);
    p!(run(|| wr(fds[1], "x").errno()));
    ignore(SIGPIPE);
    p!(wr(fds[1], "x"));
    catch(SIGPIPE, 0);
    p!(wr(fds[1], "x"), caught());
}

fn syscall_number_out_of_range() {
    p!(syscall(100_000, &[]), syscall(-1, &[]), syscall(i64::MIN, &[]), syscall(600, &[]));
    p!(syscall(0x4000_0000 | 39, &[]), syscall(156, &[]), syscall(174, &[]));
}

fn sigreturn_with_a_bad_frame_kills() {
    p!(run(|| sc!(SYS_rt_sigreturn).errno()));
}

fn handler_address_that_is_not_mapped() {
    p!(run(|| {
        set_action(SIGUSR1, 4096, SA_SIGINFO, 0);
        raise(SIGUSR1);
        0
    }));
}

fn async_io_signal() {
    let s = pair(SOCK_STREAM);
    catch(SIGIO, 0);
    p!(fcntl(s[0], F_SETOWN, getpid()), fcntl(s[0], F_GETOWN, 0).fd() == getpid());
    p!(fcntl(s[0], F_SETFL, O_ASYNC | O_NONBLOCK), wr(s[1], "x"), until(|| count() > 0));
    p!(hits().iter().all(|h| h.sig == SIGIO), fcntl(s[0], 10, SIGUSR1), fcntl(s[0], 11, 0));
}

cases![
    each_fault_kills,
    each_fault_can_be_caught_and_skipped,
    fault_addresses,
    time_stamp_counter_can_be_forbidden,
    fault_in_a_blocked_signal_kills,
    fault_in_its_own_handler_kills,
    handler_unprotects_and_retries,
    many_faults_in_a_row,
    long_jump_out_of_a_fault,
    long_jump_leaves_the_mask_alone,
    long_jump_off_the_alternate_stack,
    alternate_stack_overflow_kills,
    floating_point_state_survives_handlers,
    floating_point_state_survives_a_timer_storm,
    floating_point_state_survives_fork,
    fork_inherits_handlers_and_mask_but_not_pending,
    kill_errors,
    kill_permissions,
    kill_by_saved_or_real_uid,
    sigcont_is_allowed_within_the_session,
    kill_of_a_group,
    kill_zero_reaches_the_own_group,
    kill_of_itself_is_immediate,
    continue_discards_pending_stops_and_the_reverse,
    stopped_process_handles_signals_after_continuing,
    sigpipe,
    syscall_number_out_of_range,
    sigreturn_with_a_bad_frame_kills,
    handler_address_that_is_not_mapped,
    async_io_signal,
];
