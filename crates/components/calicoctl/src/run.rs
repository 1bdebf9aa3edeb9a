use std::ffi::OsString;

use caracal_manifests::read_args;

use crate::{
    Io,
    cli::{Cli, Command, Global, LogLevel},
    completion,
    crud::{self, Verb},
    datastore,
    failure::Failure,
    get, ipam, label, node, patch,
    session::Session,
    trial, validate, version,
};

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    run_with(args, Io::process())
}

/// As [`run`], reading and writing through `io`.
#[must_use]
pub fn run_with(args: Vec<OsString>, mut io: Io) -> i32 {
    let cli: Cli = match read_args(args, &mut io.output, &mut io.errors, 1) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    prepare(&cli.global);
    let mut session = Session::new(io, cli.global.config);
    match block_on(dispatch(cli.command, &mut session)).and_then(|done| done) {
        Ok(()) => 0,
        // As a filter whose reader has seen enough.
        Err(Failure::Closed) => 0,
        Err(Failure::Code(code, text)) => {
            if !text.is_empty() {
                session.io.complain(&text);
            }
            code
        }
        Err(e) => {
            session.io.complain(&e.to_string());
            1
        }
    }
}

fn prepare(global: &Global) {
    // The other levels log nothing that an error message does not say.
    if matches!(
        global.log_level,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug | LogLevel::Trace
    ) {
        let level = format!("{:?}", global.log_level).to_lowercase();
        caracal_runtime::init_logging(&level, caracal_runtime::LogFormat::Text);
    }
}

fn block_on<T>(task: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Start)?;
    Ok(runtime.block_on(task))
}

/// The exit code for a command of Calico's that this version does not have.
const NOT_HERE: i32 = 64;

pub(crate) fn absent(command: &str, instead: &str) -> Failure {
    Failure::Code(
        NOT_HERE,
        format!("calicoctl {command} is not in this version of Caracal: {instead}"),
    )
}

async fn dispatch(command: Command, session: &mut Session) -> Result<(), Failure> {
    match command {
        Command::Create { input, skip_exists } => {
            crud::write(session, Verb::Create { skip_exists }, &input).await
        }
        Command::Apply {
            input,
            confirm_within: None,
        } => crud::write(session, Verb::Apply, &input).await,
        Command::Apply {
            input,
            confirm_within: Some(time),
        } => trial::apply(session, &input, &time).await,
        Command::Confirm(args) => trial::confirm(session, &args).await,
        Command::Replace { input } => crud::write(session, Verb::Replace, &input).await,
        Command::Delete(args) => crud::delete(session, &args).await,
        Command::Get(args) => get::get(session, &args).await,
        Command::Patch(args) => patch::patch(session, &args).await,
        Command::Label(args) => label::label(session, &args).await,
        Command::Validate { input } => validate::validate(session, &input),
        Command::Datastore(command) => datastore::datastore(session, &command).await,
        Command::Ipam(command) => ipam::ipam(session, &command).await,
        Command::Node(command) => node::node(session, &command),
        Command::Cluster(_) => Err(absent(
            "cluster diags",
            "'node diags' collects what one node knows",
        )),
        Command::Completion(args) => completion::completion(session, &args),
        Command::Version(args) => version::version(session, &args).await,
    }
}
