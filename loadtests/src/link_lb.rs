//! A stand-in for load balancer and Private Link Service: relays TCP connections and puts a PROXY v2 header
//! with the Azure link id before each.
//!
//! It never looks into what it relays. Each side's end of data is passed on by itself, so that half-closed
//! connections stay half-closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postern_api::LinkId;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::proxy_v2::Header;
use crate::say;

// Limit: connections at a time; the next one waits in the listener's backlog. Each takes two descriptors,
// and 1024 is what a shell usually allows, so a larger number needs `ulimit -n` too.
const CONNECTIONS_MAX: usize = 8192;

/// What to put before each connection, and where to send it.
#[derive(Debug, Clone, clap::Args)]
pub struct LinkLbOptions {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// The data listener of Postern
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
    /// The link id of the private endpoint connection to stand for
    #[arg(long, value_name = "NUMBER", required_unless_present_any = ["local", "no_tlv"])]
    pub link_id: Option<LinkId>,
    /// The client address to announce instead of the real one
    #[arg(long, value_name = "ADDRESS")]
    pub client_ip: Option<IpAddr>,
    /// Send a LOCAL header without addresses, as a health probe does
    #[arg(long, conflicts_with_all = ["link_id", "no_tlv", "client_ip"])]
    pub local: bool,
    /// Send a PROXY header without the link id
    #[arg(long, conflicts_with = "link_id")]
    pub no_tlv: bool,
    /// The host name to show in the command to type
    #[arg(long, value_name = "NAME", default_value = "hospital-a.dicom.example")]
    pub host: String,
}

impl LinkLbOptions {
    fn header(&self, client: SocketAddr, server: SocketAddr) -> Header {
        if self.local {
            return Header::Local;
        }
        let client = SocketAddr::new(self.client_ip.unwrap_or(client.ip()), client.port());
        Header::Proxy {
            client,
            server,
            link_id: self.link_id,
        }
    }

    fn announcement(&self, address: SocketAddr) -> String {
        let header = match self.link_id {
            Some(link_id) => format!("a PROXY v2 header with link id {link_id}"),
            None if self.local => "a LOCAL PROXY v2 header".to_owned(),
            None => "a PROXY v2 header without a link id".to_owned(),
        };
        let (host, port) = (&self.host, address.port());
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        format!(
            "link-lb: {address} -> {}, {header} before each connection\n\
             link-lb: try: curl --resolve {host}:{port}:{ip} --cacert CA.crt https://{host}:{port}/",
            self.to
        )
    }
}

/// Relays until the process is interrupted.
pub async fn run(options: LinkLbOptions) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    say(&options.announcement(listener.local_addr()?));
    tokio::select! {
        () = relay(listener, options) => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

/// Relays each connection that `listener` accepts. Does not return.
pub async fn relay(listener: TcpListener, options: LinkLbOptions) {
    let options = Arc::new(options);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                say(&format!("link-lb: cannot accept: {error}"));
                // Out of descriptors, most likely; one that is freed lets the next accept succeed.
                tokio::task::yield_now().await;
                continue;
            }
        };
        let options = Arc::clone(&options);
        tokio::spawn(async move {
            if let Err(error) = connection(stream, client, &options).await {
                say(&format!(
                    "link-lb: connection from {client} to {}: {error}",
                    options.to
                ));
            }
            drop(place);
        });
    }
}

async fn connection(
    mut from: TcpStream,
    client: SocketAddr,
    options: &LinkLbOptions,
) -> io::Result<()> {
    let mut to = TcpStream::connect(options.to).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let header = options.header(client, from.local_addr()?);
    to.write_all(&header.bytes()).await?;
    match tokio::io::copy_bidirectional(&mut from, &mut to).await {
        Err(error) if !is_ordinary(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Either side may reset a connection it is done with; that is not worth a line.
fn is_ordinary(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn start(link_id: Option<LinkId>, local: bool) -> (TcpListener, SocketAddr) {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = LinkLbOptions {
            listen: address,
            to: upstream.local_addr().unwrap(),
            link_id,
            client_ip: Some("10.0.0.4".parse().unwrap()),
            local,
            no_tlv: false,
            host: String::new(),
        };
        tokio::spawn(relay(listener, options));
        (upstream, address)
    }

    #[tokio::test]
    async fn the_header_comes_first_and_carries_the_link_id() {
        let (upstream, address) = start(Some(LinkId::new(0x2100_45c1)), false).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut bytes = [0; 41];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes[16..20], [10, 0, 0, 4]);
        assert_eq!(&bytes[28..], b"\xee\0\x05\x01\xc1\x45\0\x21hello");
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_carries_the_answer() {
        let (upstream, address) = start(None, true).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut request = Vec::new();
        server.read_to_end(&mut request).await.unwrap();
        assert_eq!(&request[12..], b"\x20\0\0\0request");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }
}
