//! Other IPAM plugins, found in `CNI_PATH` and run as the specification says: same environment, same stdin.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{
    call::Call,
    env::Env,
    error::{CniError, Code},
    pod_cidr,
    result::{AddResult, read_result},
};

#[derive(Deserialize)]
struct ForeignError {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Runs `plugin` with a verb. The result of ADD; of other verbs nothing is read.
pub(crate) async fn run(call: &Call<'_>, plugin: &str, verb: &str) -> Result<AddResult, CniError> {
    let stdin = pod_cidr::resolve(call, verb).await?;
    execute(call.env, plugin, verb, &stdin)
}

fn execute(env: &Env, plugin: &str, verb: &str, stdin: &[u8]) -> Result<AddResult, CniError> {
    let failed = |why: String| CniError::new(Code::Delegate, format!("IPAM plugin {plugin}, {verb}"), why);
    let program = env.path.iter().map(|dir| dir.join(plugin)).find(|p| p.is_file());
    let Some(program) = program else {
        let looked: Vec<String> = env.path.iter().map(|p| p.display().to_string()).collect();
        return Err(CniError::env(
            "CNI_PATH",
            format!("IPAM plugin {plugin} is not in [{}]", looked.join(", ")),
        ));
    };
    let mut child = Command::new(&program)
        .envs(&env.all)
        .env("CNI_COMMAND", verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| failed(format!("cannot start {}: {e}", program.display())))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A plugin that ends without reading closes the pipe; its exit code says why.
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(match serde_json::from_slice::<ForeignError>(&output.stdout) {
            Ok(e) => CniError {
                code: e.code,
                msg: format!("IPAM plugin {plugin}: {}", e.msg),
                details: e.details,
            },
            Err(_) => failed(format!("it ended with {} and told no error", output.status)),
        });
    }
    if verb != "ADD" {
        return Ok(AddResult::default());
    }
    let value =
        serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("its result is not JSON: {e}")))?;
    let result = read_result(&value).map_err(|e| failed(format!("its result cannot be read: {e}")))?;
    if result.addresses.is_empty() {
        return Err(failed("its result has no address".into()));
    }
    Ok(result)
}
