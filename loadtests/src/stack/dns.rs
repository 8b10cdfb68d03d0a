//! A name server in this process, as Traffic Manager stands behind one: names whose addresses change, aliases, names
//! that are gone.
//!
//! It speaks DNS over UDP (RFC 1035) on a port of the loopback interface, answers a chain of CNAMEs whole, as a
//! recursive resolver does, and gives each record the TTL it was told; it never counts one down.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::StackError;

/// A running name server; ends on drop.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Well.
    #[default]
    Answering,
    /// `SERVFAIL`, to everything.
    Failing,
    /// Not at all.
    Silent,
}

#[derive(Debug, Default)]
struct Shared {
    names: Vec<(Name, u32, Entry)>,
    behaviour: Behaviour,
    asked: Vec<(Name, RecordType)>,
}

#[derive(Debug)]
enum Entry {
    Addresses(Vec<IpAddr>),
    Alias(Name),
}

impl Dns {
    /// Listens. Knows no name yet.
    pub async fn start() -> Result<Self, StackError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = |source| StackError::Listen {
            address: any,
            source,
        };
        let socket = UdpSocket::bind(any).await.map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let task = tokio::spawn(serve(socket, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, the name has these addresses, for `ttl` seconds at a time. None: it is there and has none.
    pub fn set(&self, text: &str, ttl: u32, addresses: &[IpAddr]) {
        self.put(text, ttl, Entry::Addresses(addresses.to_vec()));
    }

    /// From now on, the name is another name for `target`.
    pub fn alias(&self, text: &str, ttl: u32, target: &str) {
        self.put(text, ttl, Entry::Alias(name(target)));
    }

    /// There is no such name any more.
    pub fn remove(&self, text: &str) {
        let gone = name(text);
        lock(&self.shared).names.retain(|(name, ..)| *name != gone);
    }

    /// From now on, it answers like this.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.shared).behaviour = behaviour;
    }

    /// How often the name's addresses (A) were asked for.
    pub fn asked(&self, text: &str) -> usize {
        let asked = (name(text), RecordType::A);
        let shared = lock(&self.shared);
        shared.asked.iter().filter(|it| **it == asked).count()
    }

    fn put(&self, text: &str, ttl: u32, entry: Entry) {
        let new = name(text);
        let mut shared = lock(&self.shared);
        shared.names.retain(|(name, ..)| *name != new);
        shared.names.push((new, ttl, entry));
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test's own name; the root, which nobody asks for, if it is none.
fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap_or_default();
    name.set_fqdn(true);
    name
}

async fn serve(socket: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is that of an answer that came to nobody.
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        let answer = answer(&datagram[..length], &mut lock(&shared));
        if let Ok(Some(bytes)) = answer {
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}

fn answer(datagram: &[u8], shared: &mut Shared) -> io::Result<Option<Vec<u8>>> {
    let query = Message::from_vec(datagram).map_err(io::Error::other)?;
    let Some(question) = query.queries.first() else {
        return Ok(None);
    };
    let (asked, kind) = (question.name().clone(), question.query_type());
    shared.asked.push((asked.clone(), kind));
    let mut answer = Message::response(query.id, query.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    match shared.behaviour {
        Behaviour::Silent => return Ok(None),
        Behaviour::Failing => answer.metadata.response_code = ResponseCode::ServFail,
        Behaviour::Answering => fill(&mut answer, asked, kind, shared),
    }
    answer.to_vec().map(Some).map_err(io::Error::other)
}

fn fill(answer: &mut Message, asked: Name, kind: RecordType, shared: &Shared) {
    let mut at = asked;
    for _ in 0..CHAIN_MAX {
        let Some((_, ttl, entry)) = shared.names.iter().find(|(name, ..)| *name == at) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            break;
        };
        match entry {
            Entry::Alias(target) => {
                let alias = RData::CNAME(CNAME(target.clone()));
                answer.add_answer(Record::from_rdata(at, *ttl, alias));
                at = target.clone();
            }
            Entry::Addresses(addresses) => {
                let mut any = false;
                for data in addresses.iter().map(|ip| RData::from(*ip)) {
                    if data.record_type() == kind {
                        answer.add_answer(Record::from_rdata(at.clone(), *ttl, data));
                        any = true;
                    }
                }
                if any {
                    return;
                }
                break;
            }
        }
    }
    // RFC 2308: what says that there is nothing, and for how long.
    let soa = SOA::new(name("ns.example"), name("nobody.example"), 1, 60, 60, 60, 1);
    answer.add_authority(Record::from_rdata(name("example"), 1, RData::SOA(soa)));
}

// Limit: a query over UDP with EDNS.
const DATAGRAM_BYTES_MAX: usize = 4096;
// Limit: aliases that lead in a circle have an end.
const CHAIN_MAX: usize = 8;
