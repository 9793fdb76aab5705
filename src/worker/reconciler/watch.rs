//! Notices the end of a process that is not our child: an adopted decky.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waited before a process that is gone already is reported.
const CALM: Duration = Duration::from_secs(1);

/// Resolves when the process `pid` has ended; never, when the kernel does not tell.
pub(super) async fn until_gone(pid: i32) {
    if let Err(error) = gone(pid).await {
        tracing::debug!("watching process {pid}: {error}");
        std::future::pending::<()>().await;
    }
}

async fn gone(pid: i32) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(process) => {
            let process = watchable(process)?;
            process.readable().await?.retain_ready();
            Ok(())
        }
        Err(Errno::SRCH) => {
            tokio::time::sleep(CALM).await;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor; unsound only for types that do not own their descriptor"
)]
fn watchable(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = tokio::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let watch = until_gone(pid);
        tokio::pin!(watch);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut watch).await;
        assert!(early.is_err(), "it lives");
        child.start_kill().unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch)
            .await
            .unwrap();
    }
}
