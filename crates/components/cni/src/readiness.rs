//! `readiness_gates`: URLs that must answer 200 before a pod is attached.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    error::{CniError, Code},
    on_demand,
};

/// How long one gate may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks every gate once; the runtime calls ADD again when one is closed.
pub(crate) async fn wait(gates: &[String]) -> Result<(), CniError> {
    for url in gates {
        let (address, path) = parse(url)?;
        on_demand::runtime().await;
        let closed =
            |why: String| CniError::new(Code::TryAgain, format!("readiness gate {url} is closed"), why);
        match timeout(LIMIT, ask(&address, &path)).await {
            Err(_) => return Err(closed(format!("no answer in {LIMIT:?}"))),
            Ok(Err(e)) => return Err(closed(e.to_string())),
            Ok(Ok(line)) if line.split(' ').nth(1) == Some("200") => {}
            Ok(Ok(line)) => return Err(closed(format!("it answers {line:?}"))),
        }
    }
    Ok(())
}

/// `host:port` and path of an URL.
pub(crate) fn parse(url: &str) -> Result<(String, String), CniError> {
    let wrong = |why| CniError::config("readiness_gates", format!("{url:?} {why}"));
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| wrong("is not of the form http://HOST[:PORT]/PATH"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '@') {
        return Err(wrong("names no host"));
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let path = if path.is_empty() { "/" } else { path };
    Ok((address, path.to_owned()))
}

/// The first line of the answer.
async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
