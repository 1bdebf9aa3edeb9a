//! Every command there is, with an output that takes nothing, a datastore that does not answer, files that are not there
//! and options that are none. Which commands there are is asked of the program: a new one without its row fails here.

mod mixed;
mod shells;

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use caracal_testkit::{Background, eventually, needs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_caracal");

/// What is behind a command's answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Nothing but the command line and files.
    Files,
    /// The configured datastore.
    Datastore,
}
use Asks::{Datastore, Files};

/// A command that prints something: the line, what it is from, and its exit code when the reader has left. Where it ran
/// before, the next may build on it.
const ROWS: &[(&str, Asks, i32)] = &[
    ("ctl create --skip-exists -f DIR/objects.yaml", Datastore, 0),
    ("ctl apply -f DIR/objects.yaml", Datastore, 0),
    ("ctl apply --confirm-within 1h -f DIR/host.yaml", Datastore, 0),
    ("ctl confirm hep h", Datastore, 0),
    ("ctl replace -f DIR/objects.yaml", Datastore, 0),
    ("ctl get gnetsets", Datastore, 0),
    ("ctl get gnetsets -o yaml", Datastore, 0),
    ("ctl get gnetsets set -o json", Datastore, 0),
    (
        "ctl get -f DIR/objects.yaml -o go-template={{len|.Items}}",
        Datastore,
        0,
    ),
    ("ctl patch gnetsets set -p {}", Datastore, 0),
    ("ctl label gnetsets set a=b --overwrite", Datastore, 0),
    ("ctl validate -f DIR/objects.yaml", Files, 0),
    ("ctl ipam check", Datastore, 0),
    ("ctl ipam show", Datastore, 0),
    ("ctl ipam configure --strictaffinity=false", Datastore, 0),
    ("ctl datastore migrate lock", Datastore, 0),
    ("ctl datastore migrate export", Datastore, 0),
    ("ctl datastore migrate import -f DIR/export.yaml", Datastore, 0),
    (
        "ctl datastore migrate copy --overwrite --from unix://DIR/one.sock --to unix://DIR/two.sock",
        Files,
        0,
    ),
    ("ctl ipam split 2 --name pool", Datastore, 0),
    ("ctl datastore migrate unlock", Datastore, 0),
    ("ctl datastore migrate-policy-names", Datastore, 0),
    ("ctl delete --skip-not-exists gnetsets set", Datastore, 0),
    ("ctl node diags --log-dir=DIR/none", Files, 0),
    ("ctl node checksystem -f DIR/kernel", Files, 0),
    ("ctl completion bash", Files, 0),
    ("query completion zsh", Files, 0),
    ("ctl version", Datastore, 0),
    ("ctl version --client", Files, 0),
    ("query -f SHOP eval all()", Files, 0),
    ("query eval all()", Datastore, 0),
    ("query policy default.everybody", Datastore, 0),
    ("query endpoint x", Datastore, 0),
    ("query host x -o yaml", Datastore, 0),
    ("query version", Files, 0),
    ("policy diff SHOP SHOP", Files, 0),
    ("policy diff live SHOP", Datastore, 1),
    ("policy test TESTS -f SHOP", Files, 0),
    ("policy lint SHOP", Files, 0),
    ("policy lint live", Datastore, 1),
    ("policy-check TABLE --cases ^a|egress", Files, 0),
    ("policy-fuzz --cases 1", Files, 0),
    ("validate SHOP", Files, 0),
    ("why -f SHOP shop/frontend shop/cart http/tcp", Files, 0),
    ("why -f SHOP shop/cart shop/orders metrics/tcp -o yaml", Files, 1),
    ("node config", Files, 0),
    ("store stats --socket DIR/one.sock", Files, 0),
    ("store check --data DIR/three", Files, 0),
    ("version", Files, 0),
];

/// Commands without a row: what they print first is an error, or nothing, or they run until they are ended; with the place
/// of their tests.
const WITHOUT: &[(&str, &str)] = &[
    ("felix", "runs until it is ended: components/felix"),
    ("node startup", "prints nothing: components/node"),
    (
        "node allocate-tunnel-addrs",
        "runs until it is ended: components/node",
    ),
    (
        "ipam collect",
        "prints nothing where nothing is leaked: components/node",
    ),
    ("store serve", "runs until it is ended: components/store-server"),
    ("store backup", "prints nothing: components/store-server"),
    ("store restore", "prints nothing: components/store-server"),
    ("store compact", "prints nothing: components/store-server"),
    ("store watch", "runs until it is ended: components/store-server"),
    (
        "store reports",
        "prints what nodes report: components/store-server",
    ),
    ("cni", "a plugin, which takes no options: components/cni"),
    ("cni-ipam", "a plugin, which takes no options: components/cni"),
    (
        "ctl ipam release",
        "needs leaked addresses: components/calicoctl, releases_an_address_or_what_reports_agree_on",
    ),
    (
        "ctl node status",
        "needs an agent: components/calicoctl, the_status_of_a_node_and_its_peers",
    ),
    ("top", "needs an agent: components/query"),
    ("watch drops", "needs an agent: components/query"),
    ("lab up", "makes namespaces: components/lab"),
    ("lab status", "needs a lab: components/lab"),
    ("lab apply", "needs a lab: components/lab"),
    ("lab delete", "needs a lab: components/lab"),
    ("lab exec", "needs a lab: components/lab"),
    ("lab node kill", "needs a lab: components/lab"),
    ("lab node start", "needs a lab: components/lab"),
    ("lab node exec", "needs a lab: components/lab"),
    ("lab probe", "needs a lab: components/lab"),
    ("lab down", "needs a lab: components/lab"),
];

/// Lines that name a file that is not there. Each command whose help speaks of a file or directory to read has one.
const MISSING: &[&str] = &[
    "ctl create -f GONE",
    "ctl apply -f GONE",
    "ctl confirm -f GONE",
    "ctl replace -f GONE",
    "ctl delete -f GONE",
    "ctl get -f GONE",
    "ctl get ippools -o go-template-file=GONE",
    "ctl validate -f GONE",
    "ctl datastore migrate import -f GONE",
    "ctl datastore migrate copy --from GONE --to GONE",
    "ctl ipam release --from-report GONE",
    "ctl node checksystem -f GONE",
    "query -f GONE eval all()",
    "query -f GONE policy x",
    "query -f GONE endpoint x",
    "query -f GONE host x",
    "policy diff GONE SHOP",
    "policy test GONE -f SHOP",
    "policy test TESTS -f GONE",
    "policy lint GONE",
    "policy-check GONE",
    "policy-fuzz --file GONE",
    "validate GONE",
    "why -f GONE a b 80",
    "store restore --data DIR/new GONE",
    // Which datastore.
    "ctl patch ippools x -p {} -c GONE",
    "ctl label ippools x a=b -c GONE",
    "ctl ipam check -c GONE",
    "ctl ipam show -c GONE",
    "ctl ipam configure --strictaffinity=true -c GONE",
    "ctl ipam split 2 --name x -c GONE",
    "ctl datastore migrate lock -c GONE",
    "ctl datastore migrate unlock -c GONE",
    "ctl datastore migrate export -c GONE",
    "ctl datastore migrate-policy-names -c GONE",
    "ctl version -c GONE",
    "store watch --kind IPPool --once -c GONE",
    "store reports -c GONE",
    "ipam collect --rounds 1 --config GONE",
];

/// Commands whose help names a file that is no input, or whose file may be absent; and why.
const MAY_BE_ABSENT: &[(&str, &str)] = &[
    ("felix", "its configuration file is optional"),
    ("node startup", "reads the same optional files"),
    ("node allocate-tunnel-addrs", "reads the same optional files"),
    ("node config", "its configuration file is optional"),
    ("store serve", "makes its directory"),
    ("lab up", "makes namespaces first: components/lab"),
    ("lab apply", "needs a lab first: components/lab"),
    ("lab delete", "needs a lab first: components/lab"),
    ("store check", "a directory of data: components/store-server"),
    ("store stats", "a directory of data: components/store-server"),
    ("store backup", "writes its file"),
    ("store compact", "a directory of data: components/store-server"),
    ("ctl node status", "asks the agent, no datastore"),
    ("ctl node diags", "collects what there is"),
    ("ctl completion", "reads nothing"),
    ("query version", "reads nothing"),
    ("query completion", "reads nothing"),
    ("watch drops", "needs an agent first"),
    ("top", "needs an agent first"),
];

/// The names of the commands below one, as its help lists them.
fn below(path: &[String]) -> (Vec<String>, String) {
    let output = Command::new(PROGRAM).args(path).arg("--help").output();
    let output = output.expect("the program starts");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let list = match help.split_once("Commands:\n") {
        Some((_, list)) => list.split("\n\n").next().unwrap_or_default(),
        // The program's own help is one list of those that are here, and one of those that are not.
        None if path.is_empty() => help.split("\n\n").nth(2).unwrap_or_default(),
        None => "",
    };
    let names = list
        .lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next());
    let names = names.filter(|n| *n != "help").map(str::to_owned).collect();
    (names, help)
}

/// All commands that have none below them, with their help.
fn leaves() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let (names, help) = below(&path);
        if names.is_empty() {
            found.push((path.join(" "), help));
        }
        open.extend(names.into_iter().map(|n| [path.clone(), vec![n]].concat()));
    }
    assert!(found.len() > 50, "{found:?}");
    found.sort();
    found
}

/// The command of a line: the longest of the leaves whose words it has, in their order.
fn leaf_of(line: &str, leaves: &[(String, String)]) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let is_in = |leaf: &str| {
        let mut rest = words.iter();
        leaf.split(' ').all(|part| rest.any(|w| *w == part))
    };
    let fits = leaves
        .iter()
        .filter(|(leaf, _)| words[0] == leaf.split(' ').next().unwrap_or_default() && is_in(leaf));
    let longest = fits.max_by_key(|(leaf, _)| leaf.len());
    longest
        .unwrap_or_else(|| panic!("no command for {line}"))
        .0
        .clone()
}

/// Two stores that are served, one that is not, and files.
struct Rig {
    dir: tempfile::TempDir,
    served: Vec<Background>,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            dir: tempfile::tempdir().expect("a directory"),
            served: Vec::new(),
        };
        let set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: set}\nspec: {nets: [10.0.0.0/8]}\n";
        let pool = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.65.0.0/24}\n";
        let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: default.everybody}\nspec: {tier: default, selector: all(), ingress: [{action: Allow}]}\n";
        let info = "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\nspec: {datastoreReady: true, clusterGUID: abc}\n";
        rig.file("objects.yaml", &[set, pool, policy, info].join("---\n"));
        rig.file(
            "host.yaml",
            "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h}\nspec: {node: n1, interfaceName: eth0}\n",
        );
        let has = [
            "NF_TABLES",
            "NF_CONNTRACK",
            "NF_NAT",
            "NFT_CT",
            "NFT_FIB",
            "NFT_LOG",
            "NFT_MASQ",
            "NFT_NAT",
            "NFT_REJECT",
            "VETH",
            "VXLAN",
        ];
        rig.file("kernel", &has.map(|o| format!("CONFIG_{o}=m\n")).concat());
        for name in ["one", "two", "three"] {
            rig.serve(name);
        }
        rig.served.pop();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn serve(&mut self, name: &str) {
        let socket = self.path(&format!("{name}.sock"));
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = Command::new(PROGRAM);
        command
            .args(["store", "serve", "--socket"])
            .arg(&socket)
            .arg("--data")
            .arg(self.path(name));
        self.served.push(Background::spawn(command.stderr(log)));
        eventually(Duration::from_secs(60), || {
            UnixStream::connect(&socket).map(drop).map_err(|e| e.to_string())
        });
    }

    /// What the rows are about.
    fn prepared() -> Self {
        let rig = Self::new();
        let done = |line: &str| {
            let output = rig.command(line).output().expect("the program starts");
            assert!(output.status.success(), "{line}: {output:?}");
            output.stdout
        };
        done("ctl apply -f DIR/objects.yaml");
        done("ctl datastore migrate lock");
        let export = done("ctl datastore migrate export");
        rig.file("export.yaml", &String::from_utf8_lossy(&export));
        done("ctl datastore migrate unlock");
        rig
    }

    fn command(&self, line: &str) -> Command {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let dir = self.dir.path().display().to_string();
        let word = |word: &str| {
            word.replace("DIR", &dir)
                .replace("GONE", "/nonexistent/x")
                .replace("SHOP", &format!("{root}/examples/lab"))
                .replace("TESTS", &format!("{root}/examples/policy-tests/shop.yaml"))
                .replace("TABLE", &format!("{root}/testdata/policy/calico-cases.json"))
                .replace("{{len|", "{{len ")
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(line.split(' ').map(word))
            .env("ETCD_ENDPOINTS", format!("unix://{dir}/one.sock"))
            .env("TMPDIR", &dir)
            .env_remove("DATASTORE_TYPE")
            .stdin(Stdio::null());
        command
    }
}

/// What a command complained about; it must have ended by itself, and without a panic.
fn told(line: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code().is_some() && !errors.contains("panicked"),
        "{line}: {output:?}"
    );
    errors
}

#[test]
fn every_command_has_its_rows() {
    let leaves = leaves();
    let has = |lines: &[&str]| -> BTreeSet<String> { lines.iter().map(|l| leaf_of(l, &leaves)).collect() };
    let printing = has(&ROWS.iter().map(|r| r.0).collect::<Vec<_>>());
    let missing = has(MISSING);
    for (leaf, help) in &leaves {
        let without = WITHOUT.iter().any(|(known, _)| known == leaf);
        assert!(
            printing.contains(leaf) != without,
            "{leaf}: it needs a row in ROWS, or one in WITHOUT that says why not, and not both"
        );
        let names_a_file = ["<FILE", "[FILE", "<PATH", "<DIR", "<OLD", "<DATASTORE", "KERNEL"]
            .iter()
            .any(|p| help.contains(p));
        let excused = MAY_BE_ABSENT.iter().any(|(known, _)| known == leaf);
        assert!(
            !names_a_file || missing.contains(leaf) || excused,
            "{leaf}: it reads files, and needs a row in MISSING, or one in MAY_BE_ABSENT that says why not"
        );
    }
    let known: BTreeSet<&str> = leaves.iter().map(|(l, _)| l.as_str()).collect();
    for (name, _) in WITHOUT.iter().chain(MAY_BE_ABSENT) {
        assert!(known.contains(name), "there is no command {name} any more");
    }
}

#[test]
fn a_full_disk_is_an_error_of_every_command() {
    let rig = Rig::prepared();
    for (line, ..) in ROWS {
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let output = rig
            .command(line)
            .stdout(full)
            .output()
            .expect("the program starts");
        let errors = told(line, &output);
        assert!(
            !output.status.success() && errors.contains("No space left"),
            "{line}: {:?} {errors}",
            output.status
        );
    }
}

#[test]
fn a_reader_that_left_is_none_of_any_command() {
    let rig = Rig::prepared();
    for (line, _, code) in ROWS {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = rig
            .command(line)
            .stdout(writer)
            .output()
            .expect("the program starts");
        let errors = told(line, &output);
        assert!(
            !errors.contains("cannot write") && !errors.contains("Broken pipe"),
            "{line}: {errors}"
        );
        assert_eq!(output.status.code(), Some(*code), "{line}: {errors}");
    }
}

#[test]
fn a_datastore_that_does_not_answer_is_named_by_every_command() {
    let rig = Rig::new();
    rig.file("export.yaml", "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\nspec: {datastoreReady: false}\n");
    for (line, ..) in ROWS.iter().filter(|(_, from, _)| *from == Datastore) {
        let mut command = rig.command(line);
        let output = command.env("ETCD_ENDPOINTS", "http://127.0.0.1:1").output();
        let output = output.expect("the program starts");
        let errors = told(line, &output);
        assert!(
            !output.status.success() && errors.contains("127.0.0.1:1"),
            "{line}: {:?} {errors}",
            output.status
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named_by_every_command() {
    let rig = Rig::new();
    for line in MISSING {
        let output = rig.command(line).output().expect("the program starts");
        let errors = told(line, &output);
        // The sum of the verdicts is told in any case, and so is the client's own version.
        let silent =
            output.stdout.is_empty() || ["validate", "ctl version"].iter().any(|c| line.starts_with(c));
        assert!(
            !output.status.success() && errors.contains("/nonexistent/x") && silent,
            "{line}: {output:?}"
        );
    }
}

#[test]
fn an_option_that_there_is_not_is_named_by_every_command() {
    let plugins = ["cni", "cni-ipam"];
    for (leaf, help) in leaves() {
        if plugins.contains(&leaf.as_str()) {
            continue;
        }
        let line = format!("{leaf} --no-such-option");
        let output = Command::new(PROGRAM)
            .args(line.split(' '))
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let errors = told(&line, &output);
        if leaf == "version" {
            continue;
        }
        assert!(
            !output.status.success() && errors.contains("--no-such-option") && output.stdout.is_empty(),
            "{line}: {output:?}"
        );
        assert!(help.contains("Usage"), "{leaf}: {help}");
    }
}

/// So many objects as to make a bar worth while; at night as many as a large cluster has.
fn many() -> (usize, String) {
    let count = if std::env::var_os("CARACAL_NIGHTLY").is_some() {
        10_000
    } else {
        1_000
    };
    let set = |i: usize| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: s{i:05}}}\nspec: {{nets: [10.0.0.0/8]}}\n---\n"
        )
    };
    (count, (0..count).map(set).collect())
}

#[test]
fn progress_is_seen_on_a_terminal_and_not_in_a_pipe() {
    needs!("script", "stty");
    let rig = Rig::new();
    let (count, text) = many();
    rig.file("many.yaml", &text);
    let said = format!("Successfully applied {count} 'GlobalNetworkSet' resource(s)");
    // `script` gives the program a terminal, and tells what it wrote there.
    let inner = format!(
        "stty cols 100 rows 30; '{PROGRAM}' ctl apply -f '{}'",
        rig.path("many.yaml").display()
    );
    let mut command = Command::new("script");
    let output = command
        .args(["-qec", &inner, "/dev/null"])
        .env(
            "ETCD_ENDPOINTS",
            format!("unix://{}", rig.path("one.sock").display()),
        )
        .env_remove("DATASTORE_TYPE")
        .stdin(Stdio::null())
        .output()
        .expect("script starts");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let bar = seen
        .split('\r')
        .find(|frame| frame.contains('█') && frame.contains(&format!("/{count} ")));
    assert!(bar.is_some() && seen.contains(&said), "{seen}");
    // In a pipe there is the result alone.
    let output = rig
        .command("ctl delete -f DIR/many.yaml")
        .output()
        .expect("the program starts");
    assert_eq!(output.stderr, b"", "{output:?}");
    let output = rig
        .command("ctl apply -f DIR/many.yaml")
        .output()
        .expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), said + "\n");
    assert_eq!(output.stderr, b"", "{output:?}");
}
