//! A runtime for asynchronous work, made when it is first needed. Most calls are the agent's and the kernel's work, which this
//! thread waits for: they end without one.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::runtime::{Handle, Runtime};

/// Runs a call to its end, in a runtime from where it first waits for anything else, such as for [`runtime`].
pub(crate) fn drive<T>(
    call: impl Future<Output = T>,
    make: impl FnOnce() -> io::Result<Runtime>,
) -> io::Result<T> {
    let mut call = pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Ok(make()?.block_on(call)),
    }
}

/// The usual one.
pub(crate) fn make() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits until there is a runtime. To be awaited before whatever uses its clock, sockets or tasks.
pub(crate) async fn runtime() {
    poll_fn(|_| match Handle::try_current() {
        Ok(_) => Poll::Ready(()),
        Err(_) => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_nothing_needs_no_runtime() {
        let none = || -> io::Result<Runtime> { Err(io::Error::other("not needed")) };
        assert_eq!(drive(async { 7 }, none).unwrap(), 7);
        let waits = async {
            runtime().await;
            8
        };
        assert!(drive(waits, none).is_err());
    }

    #[test]
    fn what_waits_goes_on_in_a_runtime() {
        let waits = async {
            let before = Handle::try_current().is_ok();
            runtime().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            (before, Handle::try_current().is_ok())
        };
        assert_eq!(drive(waits, make).unwrap(), (false, true));
    }
}
