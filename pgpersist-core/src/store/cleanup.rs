//! What goes on behind the back of whoever dropped something: a cloud is told to forget an upload. A program that is about to end
//! waits for it with [`settled`].

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

/// How many are under way in this process.
static UNDER_WAY: std::sync::LazyLock<watch::Sender<usize>> = std::sync::LazyLock::new(|| watch::Sender::new(0));

/// One that is under way, also when its task is thrown away with its runtime.
struct Counted;

impl Counted {
    fn new() -> Self {
        UNDER_WAY.send_modify(|count| *count += 1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        UNDER_WAY.send_modify(|count| *count -= 1);
    }
}

/// Does it by and by. Outside of a runtime it is left undone.
#[cfg_attr(not(any(feature = "s3", feature = "gcs", feature = "azure")), expect(dead_code, reason = "only clouds have to be told"))]
pub(crate) fn behind(work: impl Future<Output = ()> + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else { return };
    let counted = Counted::new();
    runtime.spawn(async move {
        work.await;
        drop(counted);
    });
}

/// Waits until nothing is under way any more that was begun when an unfinished upload was dropped, but no longer than `limit`, and
/// returns whether that came to pass. Without it a program that ends at once leaves parts of the upload in the bucket, which
/// nobody sees and which cost.
pub async fn settled(limit: Duration) -> bool {
    let mut count = UNDER_WAY.subscribe();
    tokio::time::timeout(limit, count.wait_for(|count| *count == 0)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_on_is_waited_for() {
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        behind(async move {
            let _ = finished.await;
        });
        assert!(!settled(Duration::from_millis(50)).await);
        finish.send(()).unwrap();
        assert!(settled(Duration::from_secs(30)).await);
    }
}
