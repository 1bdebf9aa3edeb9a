//! A container runtime's side of the CNI specification 1.1.0: chained plugins as processes, `prevResult`, capabilities,
//! CHECK, STATUS, and GC with the list of those that live.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CniAttachment {
    /// The container's id.
    pub container: String,
    /// The path of its network namespace.
    pub netns: String,
    /// The interface inside.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
}

impl CniAttachment {
    /// `eth0` of a pod of the namespace `default`, in the network namespace of the same name.
    #[must_use]
    pub fn of_pod(pod: &str) -> Self {
        Self {
            container: format!("container-of-{pod}"),
            netns: format!("/run/netns/{pod}"),
            ifname: "eth0".to_owned(),
            args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
        }
    }
}

/// What a plugin said when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniFailure {
    /// The plugin.
    pub plugin: String,
    /// The code of its error; none when it told none.
    pub code: Option<u64>,
    /// All that it said.
    pub text: String,
}

/// A network: a list of plugins, and the results of what is attached.
#[derive(Debug)]
pub struct CniRuntime {
    list: Value,
    path: Vec<PathBuf>,
    env: BTreeMap<String, String>,
    capabilities: Map<String, Value>,
    results: Mutex<BTreeMap<CniAttachment, Value>>,
}

impl CniRuntime {
    /// A network from a configuration list, with plugins in these folders.
    #[must_use]
    pub fn new(list: Value, path: &[&Path]) -> Self {
        Self {
            list,
            path: path.iter().map(|p| p.to_path_buf()).collect(),
            env: BTreeMap::new(),
            capabilities: Map::new(),
            results: Mutex::default(),
        }
    }

    /// A variable that every plugin gets besides.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What plugins that have the capability get as `runtimeConfig`.
    #[must_use]
    pub fn capability(mut self, name: &str, value: Value) -> Self {
        self.capabilities.insert(name.to_owned(), value);
        self
    }

    /// Attaches; the last plugin's result, which is kept.
    ///
    /// # Errors
    /// The first plugin's that fails; what those before it did is undone.
    pub fn add(&self, a: &CniAttachment) -> Result<Value, CniFailure> {
        let mut result = Value::Null;
        for plugin in self.plugins() {
            match self.run("ADD", plugin, Some(a), &result, None) {
                Ok(answer) => result = answer,
                Err(e) => {
                    self.forget(a);
                    // The specification wants DEL after an ADD that failed, whatever comes of it.
                    let _ = self.del(a);
                    return Err(e);
                }
            }
        }
        self.known().insert(a.clone(), result.clone());
        Ok(result)
    }

    /// Begins to attach or to detach, and kills the first plugin after a while, if it has not ended by then.
    pub fn kill_in(&self, verb: &str, a: &CniAttachment, after: Duration) {
        let plugin = &self.plugins()[0];
        let (mut command, conf) = match self.command(verb, plugin, Some(a), &self.result(a), None) {
            Ok(prepared) => prepared,
            Err(e) => panic!("{e:?}"),
        };
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a plugin");
        let stdin = child.stdin.take();
        let _ = stdin.map(|mut s| s.write_all(conf.as_bytes()));
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().expect("its own child");
    }

    /// Checks with the result of ADD.
    ///
    /// # Errors
    /// The first plugin's that finds something wrong.
    pub fn check(&self, a: &CniAttachment) -> Result<(), CniFailure> {
        let result = self.result(a);
        for plugin in self.plugins() {
            self.run("CHECK", plugin, Some(a), &result, None)?;
        }
        Ok(())
    }

    /// Detaches, last plugin first.
    ///
    /// # Errors
    /// The first plugin's that fails; the result is kept then, so that it can be called again.
    pub fn del(&self, a: &CniAttachment) -> Result<(), CniFailure> {
        let result = self.result(a);
        for plugin in self.plugins().iter().rev() {
            self.run("DEL", plugin, Some(a), &result, None)?;
        }
        self.forget(a);
        Ok(())
    }

    /// Asks whether ADD could be served.
    ///
    /// # Errors
    /// The first plugin's that says no.
    pub fn status(&self) -> Result<(), CniFailure> {
        for plugin in self.plugins() {
            self.run("STATUS", plugin, None, &Value::Null, None)?;
        }
        Ok(())
    }

    /// Tells the plugins who lives, after what is attached and does not live was detached.
    ///
    /// # Errors
    /// The first plugin's that fails, after all were asked.
    pub fn gc(&self, living: &[CniAttachment]) -> Result<(), CniFailure> {
        let known: Vec<CniAttachment> = self.known().keys().cloned().collect();
        let mut failed = None;
        for a in known.iter().filter(|a| !living.contains(a)) {
            failed = failed.or(self.del(a).err());
        }
        let list: Vec<Value> = living
            .iter()
            .map(|a| json!({"containerID": a.container, "ifname": a.ifname}))
            .collect();
        for plugin in self.plugins() {
            let valid = Some(Value::Array(list.clone()));
            failed = failed.or(self.run("GC", plugin, None, &Value::Null, valid).err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Forgets the result of an attachment, as a runtime does that lost its state.
    pub fn forget(&self, a: &CniAttachment) {
        self.known().remove(a);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<CniAttachment, Value>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn result(&self, a: &CniAttachment) -> Value {
        self.known().get(a).cloned().unwrap_or_default()
    }

    fn plugins(&self) -> &[Value] {
        self.list["plugins"].as_array().expect("a list of plugins")
    }

    /// A plugin's process, not started yet, and what it gets on stdin.
    fn command(
        &self,
        verb: &str,
        plugin: &Value,
        attachment: Option<&CniAttachment>,
        previous: &Value,
        valid: Option<Value>,
    ) -> Result<(Command, String), CniFailure> {
        let name = plugin["type"].as_str().expect("a plugin has a type");
        let mut conf = plugin.clone();
        for field in ["name", "cniVersion"] {
            conf[field] = self.list[field].clone();
        }
        let has = |c: &str| plugin["capabilities"][c] == Value::Bool(true);
        let given: Map<String, Value> = self
            .capabilities
            .iter()
            .filter(|(c, _)| has(c))
            .map(|(c, v)| (c.clone(), v.clone()))
            .collect();
        if !given.is_empty() {
            conf["runtimeConfig"] = Value::Object(given);
        }
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        if let Some(valid) = valid {
            conf["cni.dev/valid-attachments"] = valid;
        }
        let found = self.path.iter().map(|d| d.join(name)).find(|p| p.is_file());
        let program = found.ok_or_else(|| CniFailure {
            plugin: name.to_owned(),
            code: None,
            text: format!("not in {:?}", self.path),
        })?;
        let path = std::env::join_paths(&self.path).expect("folders without a colon");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.env)
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(a) = attachment {
            command
                .env("CNI_CONTAINERID", &a.container)
                .env("CNI_NETNS", &a.netns)
                .env("CNI_IFNAME", &a.ifname)
                .env("CNI_ARGS", &a.args);
        }
        Ok((command, conf.to_string()))
    }

    fn run(
        &self,
        verb: &str,
        plugin: &Value,
        attachment: Option<&CniAttachment>,
        previous: &Value,
        valid: Option<Value>,
    ) -> Result<Value, CniFailure> {
        let (mut command, conf) = self.command(verb, plugin, attachment, previous, valid)?;
        let failure = |code, text: String| CniFailure {
            plugin: plugin["type"].as_str().unwrap_or_default().to_owned(),
            code,
            text,
        };
        let mut child = command.spawn().map_err(|e| failure(None, e.to_string()))?;
        // A plugin may end before it has read all.
        let stdin = child.stdin.take();
        let _ = stdin.map(|mut s| s.write_all(conf.as_bytes()));
        let output = child
            .wait_with_output()
            .map_err(|e| failure(None, e.to_string()))?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let text = format!("{verb}: {}: {answer} {said}", output.status);
        Err(failure(answer["code"].as_u64(), text))
    }
}
