//! `postern-load up`: the local stack as real processes, verified, then left running to play with.
//!
//! Each part says when it is ready and how long that took. When a part ends although it should run, the
//! stack says which, how, and what it wrote last, and ends too.

mod link;
pub mod vault;
pub mod verify;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use crate::check::with_causes;
use crate::stack::accounts::{CERTIFICATE_NAME, HOST_A, INGRESS_NAME, LINK_A, LINK_PENDING};
use crate::stack::credentials::Credentials;
use crate::stack::descendant::Descendant;
use crate::stack::ingress::{Ingress, IngressKind};
use crate::stack::operator::{WORKSPACE, connection_name};
use crate::stack::postern::{Postern, PosternOptions, Routes};
use crate::stack::routing::{Routing, RoutingOptions};
use crate::stack::sidecar::{Sidecar, SidecarOptions};
use crate::stack::{Child, StackError, binary, free_address, make_folder};
use crate::{interrupted, say};
use vault::VaultProcess;

// Limit: how soon the end of a part is noticed.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

// Usual ports of the two stand-ins, so that a command in a shell's history works again.
const PORT_APPROVED: u16 = 8443;
const PORT_REFUSED: u16 = 8444;
const PORT_ROUTING: u16 = 8450;

// Limit: the sidecar looks this often for new versions, so that nobody has to wait who plays with them.
const LOOK_INTERVAL: &str = "2s";

/// How to bring the stack up.
#[derive(Debug, Clone, clap::Args)]
pub struct UpOptions {
    /// Tear everything down after the verified requests; exit 0 if all held, 1 otherwise
    #[arg(long)]
    pub once: bool,
    /// Where generated configuration, certificates and logs go; what lies there is replaced
    #[arg(long, value_name = "FOLDER", default_value = ".local/stack")]
    pub folder: PathBuf,
    /// The program that is the ingress
    #[arg(long, value_enum, default_value_t)]
    pub ingress: IngressKind,
}

/// The stack's parts. They end in the order of the fields: what faces the client first.
struct Stack {
    approved: (Child, SocketAddr),
    refused: (Child, SocketAddr),
    postern: Postern,
    routing: Routing,
    sidecar: Sidecar,
    vault: VaultProcess,
    ingress: Ingress,
    echo: (Child, SocketAddr),
    credentials: Credentials,
}

/// Brings the stack up, verifies it, and stays until Ctrl-C or SIGTERM.
pub async fn run(options: UpOptions) -> ExitCode {
    let mut stack = tokio::select! {
        stack = start(&options) => match stack {
            Ok(stack) => stack,
            Err(error) => {
                say(&format!("\n{}", with_causes(&error)));
                return ExitCode::FAILURE;
            }
        },
        () = interrupted() => return ExitCode::FAILURE,
    };
    let held = tokio::select! {
        held = verify(&stack) => held,
        () = interrupted() => false,
    };
    if options.once || !held {
        say(if held {
            "all held"
        } else {
            "not all held; logs are kept in the stack's folder"
        });
        return if held {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    say(&stack.instructions(&options.folder));
    // Who upgrades Postern by hand finds the stack still up. Without it, that alone is missing.
    let _ = Descendant::adopt();
    tokio::select! {
        () = interrupted() => {
            say("\nending");
            ExitCode::SUCCESS
        }
        error = stack.watch() => {
            say(&with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

async fn start(options: &UpOptions) -> Result<Stack, StackError> {
    let folder = fresh(&options.folder)?;
    let logs = folder.join("logs");
    make_folder(&logs)?;

    let step = Step("development certificates");
    let mut credentials =
        Credentials::create(&folder.join("certs"), &[CERTIFICATE_NAME], INGRESS_NAME)?;
    step.done(
        1,
        &credentials.public_ca.display().to_string(),
        Duration::ZERO,
    );

    let step = Step("Key Vault stand-in");
    let vault = VaultProcess::start(&folder.join("vault"), &logs, &credentials).await?;
    step.done(2, &vault.address().to_string(), vault.ready_after());

    let step = Step("sidecar");
    let stores = folder.join("stores");
    credentials.read_from_stores(&stores);
    let settings = SidecarOptions::new(vault.access(), &stores).looking_every(LOOK_INTERVAL);
    let sidecar = Sidecar::start(&folder.join("sidecar"), &settings).await?;
    step.done(3, &sidecar.admin().to_string(), sidecar.ready_after());

    let step = Step("back end (echo)");
    let echo_address = free_address()?;
    let echo = own(
        "echo",
        &["echo", "--listen", &echo_address.to_string()],
        &logs,
    )?;
    let echo = step.listening(4, echo, echo_address).await?;

    let step = Step(match options.ingress {
        IngressKind::Nginx => "ingress (nginx)",
        IngressKind::Envoy => "ingress (Envoy)",
    });
    let ingress =
        Ingress::start(options.ingress, &folder, &credentials, true, echo_address).await?;
    step.done(5, &ingress.address().to_string(), ingress.ready_after());

    let step = Step("account routing");
    let settings = RoutingOptions {
        listen: Some(usual_or_free(PORT_ROUTING)?),
        ..RoutingOptions::default()
    };
    let routing = Routing::start(&folder.join("routing"), &credentials, &settings).await?;
    routing.operator()?.seed().await?;
    step.done(6, &routing.address().to_string(), routing.ready_after());

    let step = Step("postern");
    let tickets = stores.join("tickets").display().to_string();
    let settings = PosternOptions {
        routes: Routes::Service(vec![routing.address()]),
        ..PosternOptions::new(ingress.address())
    };
    let settings = settings.with("POSTERN_TLS__TICKET_KEYS", &tickets);
    let postern = Postern::start(&folder.join("postern"), &credentials, &settings).await?;
    step.done(7, &postern.data().to_string(), postern.ready_after());

    let step = Step("private link stand-in, approved");
    let (child, address) = link_lb(PORT_APPROVED, LINK_A, postern.data(), &logs)?;
    let approved = step.listening(8, child, address).await?;

    let step = Step("private link stand-in, not approved");
    let (child, address) = link_lb(PORT_REFUSED, LINK_PENDING, postern.data(), &logs)?;
    let refused = step.listening(9, child, address).await?;
    Ok(Stack {
        approved,
        refused,
        postern,
        routing,
        sidecar,
        vault,
        ingress,
        echo,
        credentials,
    })
}

async fn verify(stack: &Stack) -> bool {
    let targets = verify::Targets {
        postern: &stack.postern,
        ingress: &stack.ingress,
        routing: &stack.routing,
        vault: &stack.vault,
        echo: stack.echo.1,
        approved: stack.approved.1,
        refused: stack.refused.1,
        ca: &stack.credentials.public_ca,
    };
    let mut held = true;
    say("");
    for (claim, outcome) in verify::all(targets).await {
        match outcome {
            Ok(found) => say(&format!("  ok      {claim}: {found}")),
            Err(error) => {
                held = false;
                say(&format!("  BROKEN  {claim}: {}", with_causes(&error)));
            }
        }
    }
    say("");
    held
}

impl Stack {
    fn instructions(&self, folder: &Path) -> String {
        let ca = self.credentials.public_ca.display();
        let curl = |address: SocketAddr| {
            let (ip, port) = (address.ip(), address.port());
            format!("curl --cacert {ca} --resolve {HOST_A}:{port}:{ip} https://{HOST_A}:{port}/")
        };
        let (probe, admin) = (self.postern.probe(), self.postern.admin());
        let (sidecar, rotation) = (self.sidecar.admin(), self.vault.rotation());
        let (routes, pid) = (self.routing.routes_command(), self.postern.pid());
        let link = format!("{WORKSPACE}/hospital-a/{}", connection_name(LINK_PENDING));
        format!(
            "Try:\n\
             \x20 {}            # 200 from the ingress\n\
             \x20 {}            # 403, link {LINK_PENDING} is not approved\n\
             \x20 {routes} approve {link}\n\
             \x20     # and now the same is answered with 200, until: reject {link}\n\
             \x20 {routes} list --connections\n\
             \x20 curl http://{probe}/readyz\n\
             \x20 curl http://{admin}/metrics\n\
             \x20 {rotation}\n\
             \x20     # a new version of the certificate, in use some seconds later:\n\
             \x20 curl http://{admin}/certs\n\
             \x20 curl http://{sidecar}/metrics\n\
             \x20 tail -f {}\n\
             \x20 kill -HUP {pid}      # after a change of {}: all of it or nothing\n\
             \x20 kill -USR2 {pid}     # another process takes the listeners over; its log says which\n\
             Configuration, certificates and logs: {}. Ctrl-C ends everything.",
            curl(self.approved.1),
            curl(self.refused.1),
            self.postern.access_log().path().display(),
            self.postern.config().display(),
            folder.display(),
        )
    }

    /// Returns when a part has ended.
    async fn watch(&mut self) -> StackError {
        loop {
            if let Some(status) = self.postern.exited() {
                return ended(self.postern.child(), status);
            }
            let parts = [
                &self.approved.0,
                &self.refused.0,
                self.routing.child(),
                self.sidecar.child(),
                self.vault.child(),
                self.ingress.child(),
                &self.echo.0,
            ];
            for part in parts {
                if let Some(status) = part.exited() {
                    return ended(part, status);
                }
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

fn ended(part: &Child, status: ExitStatus) -> StackError {
    StackError::Ended {
        name: part.name().to_owned(),
        status,
        awaited: "Ctrl-C".to_owned(),
        log: part.tail(),
    }
}

/// One line of progress.
struct Step(&'static str);

impl Step {
    const COUNT: usize = 9;

    fn done(&self, number: usize, place: &str, took: Duration) {
        let name = self.0;
        let seconds = took.as_secs_f64();
        say(&format!(
            "[{number}/{}] {name:<36} {place}  ready in {seconds:.1} s",
            Self::COUNT
        ));
    }

    async fn listening(
        &self,
        number: usize,
        mut child: Child,
        address: SocketAddr,
    ) -> Result<(Child, SocketAddr), StackError> {
        let took = child.wait_for_port(address).await?;
        self.done(number, &address.to_string(), took);
        Ok((child, address))
    }
}

/// Another process of this program, `name` in its log's name.
fn own(name: &str, arguments: &[&str], logs: &Path) -> Result<Child, StackError> {
    let mut command = Command::new(binary("postern-load")?);
    command.args(arguments);
    Child::spawn(name, command, logs)
}

fn link_lb(
    port: u16,
    link_id: u32,
    to: SocketAddr,
    logs: &Path,
) -> Result<(Child, SocketAddr), StackError> {
    let address = usual_or_free(port)?;
    let (listen, to, link_id) = (address.to_string(), to.to_string(), link_id.to_string());
    let arguments = [
        "link-lb",
        "--listen",
        &listen,
        "--to",
        &to,
        "--link-id",
        &link_id,
    ];
    Ok((
        own(&format!("link-lb-{link_id}"), &arguments, logs)?,
        address,
    ))
}

/// The usual port if nobody has it.
fn usual_or_free(port: u16) -> Result<SocketAddr, StackError> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(usual).is_ok() {
        Ok(usual)
    } else {
        free_address()
    }
}

/// An empty folder with a path that works from any other, since nginx has its own idea of "here".
fn fresh(folder: &Path) -> Result<PathBuf, StackError> {
    let failed = |action| {
        let path = folder.to_owned();
        move |source| StackError::File {
            action,
            path,
            source,
        }
    };
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("empty")(error)),
        _ => Ok(()),
    }?;
    make_folder(folder)?;
    folder.canonicalize().map_err(failed("find"))
}
