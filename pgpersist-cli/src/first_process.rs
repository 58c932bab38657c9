//! PID 1: in a container the first process inherits every orphan, must reap it, and gets the container's signals.
//!
//! It does nothing else: the command itself runs as its child, which can then wait for its own children undisturbed. PostgreSQL
//! is never PID 1, where it would take strangers' deaths for those of its backends.

use std::ffi::OsString;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

use crate::host::Host;
use pgpersist_core::error::{Error, Result};

/// The signals that the child gets, too.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Whether this process is the first one of its PID namespace.
pub(crate) fn is_it() -> bool {
    std::process::id() == 1
}

/// Runs this command line as a child, passes signals on to it, and reaps whoever ends. Returns the child's exit code, 128 + n
/// when signal n ended it; when the caller then ends, the kernel ends all that still runs in the namespace. `None` in a child that
/// goes on with this very call.
pub(crate) fn run(host: &dyn Host, arguments: &[OsString]) -> Result<Option<u8>> {
    let mut watch = None;
    let child = host.begin_child(arguments, &mut || {
        watch = Some(Watch::begin()?);
        Ok(())
    })?;
    let Some(child) = child else { return Ok(None) };
    let watch = watch.ok_or_else(|| Error::Bug("the first process does not listen".to_owned()))?;
    let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or_else(|| Error::Bug("a child has no number".to_owned()))?;
    watch.until_end_of(child).map(Some)
}

/// What the first process listens to: set up before the child exists, or before it can end unnoticed, so that no signal and no
/// death is missed.
struct Watch {
    runtime: Runtime,
    children: Stream,
    signals: Receiver<Signal>,
}

impl Watch {
    fn begin() -> Result<Self> {
        let broken = |what: &str, error: std::io::Error| Error::Bug(format!("the first process could not {what}: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|e| broken("begin", e))?;
        let entered = runtime.enter();
        let children = signal(SignalKind::child()).map_err(|e| broken("listen to signals", e))?;
        let (send, signals) = tokio::sync::mpsc::channel(PASSED_ON.len());
        for (kind, number) in PASSED_ON {
            let (mut stream, send) = (signal(kind).map_err(|e| broken("listen to signals", e))?, send.clone());
            runtime.spawn(async move { while stream.recv().await.is_some() && send.send(number).await.is_ok() {} });
        }
        drop(entered);
        Ok(Self { runtime, children, signals })
    }

    fn until_end_of(self, child: Pid) -> Result<u8> {
        let Self { runtime, mut children, mut signals } = self;
        runtime.block_on(async {
            // It may have ended already.
            let mut ended = reap(child);
            loop {
                if let Some(status) = ended {
                    return Ok(exit_code(status));
                }
                tokio::select! {
                    Some(number) = signals.recv() => {
                        // It may just have ended.
                        let _ = kill_process(child, number);
                    }
                    _ = children.recv() => ended = reap(child),
                }
            }
        })
    }
}

/// Reaps all that have ended; the status of `child` if it is among them.
fn reap(child: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => ended = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
