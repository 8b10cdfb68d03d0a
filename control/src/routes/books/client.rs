//! Requests to the service: HTTP/2 over mutual TLS, each with a deadline and a bounded answer.
//!
//! Promises that a request is sent again only if it cannot have taken effect: it asks and changes nothing, or never left.
//! Invariant: nothing is sent to a peer whose certificate is not of the expected CA and name.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_certs::{Bundle, Expectations, Location, Parts, UnixTime};
use postern_chassis::{period, whole};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio_rustls::TlsConnector;

use crate::routes::error::Failure;
use crate::routes::options::{IdentityPlace, ServicePlace};

// Limit: a page of a list is some 300 kB; a thousand accounts of 16 long hosts each are 5 MB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
// Limit: the largest certificate chain with its key is some 20 kB.
const PEM_BYTES_MAX: u64 = 1 << 20;
// Limit: a handshake across an ocean takes a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

// Limit: a connection that has broken is known to have so within a turn of the runtime; one that has not goes on.
const ENDING_TIMEOUT: Duration = Duration::from_millis(100);

// Limit: a service that ends three connections in a row before it answers does not want to.
const ATTEMPTS_MAX: u32 = 3;

/// A client of one service. Asks over one connection, and over another once that has ended.
pub(super) struct Client {
    place: ServicePlace,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    connection: Mutex<Option<Connection>>,
}

/// A connection that has been opened.
#[derive(Clone)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Why it has ended, once it has; nothing if it ended in good order.
    ended: watch::Receiver<Option<String>>,
    /// Whether anything has been answered over it.
    answered: Arc<AtomicBool>,
}

/// An answer, whole.
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its body.
    pub(super) body: Bytes,
}

/// What is asked.
pub(super) struct Question<'a> {
    /// The method.
    pub(super) method: Method,
    /// The path, with its query.
    pub(super) path: &'a str,
    /// A condition, if one is set.
    pub(super) condition: Option<(HeaderName, String)>,
    /// A body as JSON, if there is one.
    pub(super) body: Option<Vec<u8>>,
}

/// Why there is no answer to one attempt.
struct Unanswered {
    cause: Cause,
    why: String,
}

/// What another attempt could come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The service cannot have seen the question, and would not see it then, either.
    Unreached,
    /// The service cannot have seen the question: its connection ended before.
    Unsent,
    /// The service may have seen the question. It could be asked again, if it changes nothing.
    Lost,
    /// The service may have seen the question, and has no answer in time, or one that is too large.
    Late,
}

impl Cause {
    fn because(self, why: String) -> Unanswered {
        Unanswered { cause: self, why }
    }
}

impl Client {
    /// A client that has connected to nothing yet. Reads certificates and keys.
    pub(super) fn new(place: ServicePlace) -> Result<Self, Failure> {
        let server_name = ServerName::try_from(place.name.clone()).map_err(|_| {
            Failure::Wrong(format!("--name: `{}` is no name of a host", place.name))
        })?;
        let tls = tls(&place).map_err(Failure::Wrong)?;
        Ok(Self {
            place,
            server_name,
            tls: TlsConnector::from(Arc::new(tls)),
            connection: Mutex::new(None),
        })
    }

    /// Asks, and gives whatever the service answers. A connection may end at any moment, in good order: then once more.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        let asks = question.method == Method::GET;
        let mut attempt = 1;
        loop {
            let Unanswered { cause, why } = match self.attempt(question).await {
                Ok(answer) => return Ok(answer),
                Err(unanswered) => unanswered,
            };
            let again = cause == Cause::Unsent || (asks && cause == Cause::Lost);
            if again && attempt < ATTEMPTS_MAX {
                attempt += 1;
                continue;
            }
            let doubt = match cause {
                Cause::Lost | Cause::Late if !asks => "; whether it was done is not known",
                _ => "",
            };
            return Err(Failure::NoAnswer(format!("{self}: {why}{doubt}")));
        }
    }

    async fn attempt(&self, question: &Question<'_>) -> Result<Answer, Unanswered> {
        let timeout = self.place.timeout;
        let mut connection = self.connection().await?;
        let request = self.request(question)?;
        let answer = async {
            // Once the sender is ready, what comes after may have been sent.
            if let Err(error) = connection.sender.ready().await {
                let why = connection.why(&error).await;
                self.give_up(&connection).await;
                return Err(Cause::Unsent.because(why));
            }
            let answer = match connection.sender.send_request(request).await {
                Ok(answer) => answer,
                Err(error) => {
                    let why = connection.why(&error).await;
                    self.give_up(&connection).await;
                    let unsent = error.is_canceled();
                    let cause = if unsent { Cause::Unsent } else { Cause::Lost };
                    return Err(cause.because(why));
                }
            };
            connection.answered.store(true, Ordering::Relaxed);
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    let why = format!("an answer has more than {ANSWER_BYTES_MAX} bytes");
                    return Cause::Late.because(why);
                }
                Cause::Lost.because(format!("an answer broke off: {error}"))
            })?;
            Ok(Answer {
                status: head.status,
                body: body.to_bytes(),
            })
        };
        let late = |_| Cause::Late.because(format!("no answer within {}", period::show(timeout)));
        tokio::time::timeout(timeout, answer).await.map_err(late)?
    }

    /// Asks over this connection no more, unless another one has taken its place already.
    async fn give_up(&self, broken: &Connection) {
        let mut current = self.connection.lock().await;
        current.take_if(|it| Arc::ptr_eq(&it.answered, &broken.answered));
    }

    fn request(&self, question: &Question<'_>) -> Result<Request<Full<Bytes>>, Unanswered> {
        let never = |error: &dyn Error| Cause::Unreached.because(error.to_string());
        let uri = Uri::builder()
            .scheme("https")
            .authority(self.authority())
            .path_and_query(question.path)
            .build()
            .map_err(|error| never(&error))?;
        let body = question.body.clone().unwrap_or_default();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = question.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(ACCEPT, json.clone());
        if question.body.is_some() {
            headers.insert(CONTENT_TYPE, json);
        }
        if let Some((name, value)) = &question.condition {
            let value = HeaderValue::from_str(value).map_err(|error| never(&error))?;
            headers.insert(name, value);
        }
        Ok(request)
    }

    /// The connection, opened if there is none that is open.
    async fn connection(&self) -> Result<Connection, Unanswered> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|it| !it.sender.is_closed()) {
            return Ok(open.clone());
        }
        *connection = None;
        let timeout = CONNECT_TIMEOUT.min(self.place.timeout);
        let opened = tokio::time::timeout(timeout, self.connect()).await;
        let opened =
            opened.unwrap_or_else(|_| Err(format!("not within {}", period::show(timeout))));
        let unreached = |why| Cause::Unreached.because(format!("cannot connect: {why}"));
        let opened = opened.map_err(unreached)?;
        Ok(connection.insert(opened).clone())
    }

    async fn connect(&self) -> Result<Connection, String> {
        let tcp = TcpStream::connect((self.place.host.as_str(), self.place.port)).await;
        let tcp = tcp.map_err(|error| whole(&error))?;
        tcp.set_nodelay(true).map_err(|error| whole(&error))?;
        let tls = self.tls.connect(self.server_name.clone(), tcp).await;
        let tls = tls.map_err(|error| explain(&error))?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("it does not speak HTTP/2".to_owned());
        }
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
        let (sender, driver) = opened.map_err(|error| whole(&error))?;
        let (ending, ended) = watch::channel(None);
        tokio::spawn(async move {
            let why = driver.await.map_err(|error| explain(&error)).err();
            ending.send_replace(Some(why.unwrap_or_default()));
        });
        Ok(Connection {
            sender,
            ended,
            answered: Arc::default(),
        })
    }

    fn authority(&self) -> String {
        let ServicePlace { name, port, .. } = &self.place;
        if name.contains(':') {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the service at {}:{}", self.place.host, self.place.port)
    }
}

impl Connection {
    /// Why a request over it failed: why it has ended, if it has. The two are heard in any order.
    async fn why(&mut self, error: &hyper::Error) -> String {
        let ended = self.ended.wait_for(Option::is_some);
        let ended = tokio::time::timeout(ENDING_TIMEOUT, ended).await;
        let why = ended.ok().and_then(Result::ok).and_then(|why| why.clone());
        let why = why
            .filter(|why| !why.is_empty())
            .unwrap_or_else(|| explain(error));
        // The alert that says so is lost if the connection is reset by what we have sent meanwhile.
        if self.answered.load(Ordering::Relaxed) || why.contains(NOT_OURS) {
            why
        } else {
            format!("{why}; perhaps {NOT_OURS}")
        }
    }
}

const NOT_OURS: &str = "it does not take our certificate";

/// Why a connection failed, and what an operator can do about it if TLS did not want it. A client certificate that is
/// refused is told only after the handshake (RFC 8446 section 4.4.2), where the first answer would be.
fn explain(error: &(dyn Error + 'static)) -> String {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext, UnknownIssuer};
    use rustls::Error::{AlertReceived, InvalidCertificate};
    let Some(tls) = tls_error(error) else {
        return whole(error);
    };
    let hint = match tls {
        InvalidCertificate(UnknownIssuer) => "; is --trust the CA that signed it?",
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "; --name says which name it must have"
        }
        AlertReceived(_) => return format!("TLS: {}; {NOT_OURS}", whole(tls)),
        _ => "",
    };
    format!("TLS: {}{hint}", whole(tls))
}

/// The error of TLS among the causes, if there is one.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let inner = inner.and_then(|inner| inner.downcast_ref());
    inner
        .or_else(|| error.downcast_ref())
        .or_else(|| tls_error(error.source()?))
}

fn tls(place: &ServicePlace) -> Result<ClientConfig, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = UnixTime::since_unix_epoch(now);
    let (parts, argument) = match &place.identity {
        IdentityPlace::Together(path) => (located("--identity", path)?, "--identity"),
        IdentityPlace::Apart { cert, key } => {
            let parts = Parts::identity(read("--cert", cert)?, read("--key", key)?);
            (parts, "--cert and --key")
        }
    };
    let identity = Bundle::prove(parts, &Expectations::client(), now)
        .map_err(|error| format!("{argument}: {}", whole(&error)))?;
    let roots = match &place.trust {
        Some(path) => {
            let proven = Bundle::prove(located("--trust", path)?, &Expectations::trust(), now);
            proven
                .map_err(|error| format!("--trust: {}", whole(&error)))?
                .roots()
        }
        None => identity.roots(),
    };
    config(&identity, roots)
}

fn config(identity: &Bundle, roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
    if roots.is_empty() {
        return Err("which CA has signed the service's certificate? Say --trust PATH".to_owned());
    }
    let key = identity
        .certified_key()
        .ok_or("--identity: there is no key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| whole(&error))?;
    let mut config = config
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn located(argument: &str, path: &Path) -> Result<Parts, String> {
    let read = Location::new(path).read();
    let (parts, _) = read.map_err(|error| format!("{argument}: {}", whole(&error)))?;
    Ok(parts)
}

fn read(argument: &str, path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    use io::Read as _;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read =
        fs::File::open(path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{argument}: {}: {error}", path.display())),
    }
}
