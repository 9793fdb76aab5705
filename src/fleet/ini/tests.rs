//! Deployment files: what is read, and what is refused by line.

use super::*;
use crate::model::{Driver, Family};

fn read(text: &str) -> Deployment {
    parse(text, &Ground::default()).unwrap()
}

fn lines(problems: &[Problem]) -> Vec<usize> {
    problems.iter().map(|p| p.line).collect()
}

#[test]
fn sections_become_deckies_and_groups_are_expanded() {
    let deployment = read(
        "[general]\nnet = 127.77.5.0/24\n[web]\nip = 127.77.5.9\nservices = http, ftp\n[cache]\nservices=redis\namount = 2 ; two\n",
    );
    let names: Vec<&str> = deployment.asks.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["web", "cache-01", "cache-02"]);
    assert_eq!(
        deployment.asks[0].services,
        Some(vec![Service::Http, Service::Ftp])
    );
    assert_eq!(
        deployment.ground.subnet,
        Some("127.77.5.0/24".parse().unwrap())
    );
    assert_eq!(deployment.ground.runtime(), Runtime::Local);
}

#[test]
fn the_whole_grammar_is_read() {
    let deployment = read(
        "[general]\nnet = 10.1.0.7/16\ngw = 10.1.0.1\ninterface = eth0\ndriver = ipvlan\n\
         [a]\nip = 10.1.2.3\narchetype = web-server\nnmap-os = windows_server\nmutate-interval = 0\n\
         [a.ftp]\nanonymous = no\n\
         [b]\nruntime = docker\nservices = redis, plc\ndistro = rocky9\n\
         [custom-plc]\nbinary = example/plc:1\nexec = /plc --mode 'a b'\nports = 502\n\
         [c]\n",
    );
    let ground = &deployment.ground;
    assert_eq!(ground.runtime(), Runtime::Native);
    assert_eq!(ground.subnet, Some("10.1.0.0/16".parse().unwrap()));
    assert_eq!(ground.driver, Some(Driver::Ipvlan));
    let [a, b, c] = deployment.asks.as_slice() else {
        panic!("{:?}", deployment.asks);
    };
    assert_eq!(a.services, None);
    assert_eq!(a.family, Some(Family::WindowsServer));
    assert_eq!(a.mutate_interval, Some(0));
    assert_eq!(
        a.settings[&Service::Ftp]["anonymous"],
        serde_json::json!(false)
    );
    assert_eq!(b.runtime, Some(Runtime::Docker));
    assert_eq!(b.services, Some(vec![Service::Redis]));
    assert_eq!(b.customs[0].exec, ["/plc", "--mode", "a b"]);
    assert_eq!(b.customs[0].ports, [502]);
    assert_eq!((&c.services, &c.archetype), (&None, &None));
}

#[test]
fn settings_reach_a_whole_group_and_its_members_may_differ() {
    let deployment = read(
        "[f-02.ftp]\nanonymous = true\n[f]\nservices = ftp\namount = 3\n[f.ftp]\nanonymous = false\n",
    );
    let anonymous: Vec<bool> = deployment
        .asks
        .iter()
        .map(|a| a.settings[&Service::Ftp]["anonymous"].as_bool().unwrap())
        .collect();
    assert_eq!(anonymous, [false, true, false]);
}

#[test]
fn flags_go_before_the_general_section() {
    let given = Ground {
        subnet: Some("127.5.0.0/24".parse().unwrap()),
        ..Ground::default()
    };
    let text = "[general]\nnet = 127.6.0.0/24\n[a]\nservices = http\nip = 127.5.0.9\n";
    let deployment = parse(text, &given).unwrap();
    assert_eq!(deployment.ground.subnet, given.subnet);
}

#[test]
fn every_problem_is_said_at_once_with_its_line() {
    let problems = parse(
        "[general]\ninterface = not/one\nfoo = 1\n\
         [a]\nservices = ssh\narchetype = castle\ndistro = beos\nnmap_os = amiga\nnonsense = 1\nmutate_interval = -1\n\
         [a.http]\nx = 1\n\
         [custom-x]\nexec = it's\n\
         [b]\nip = 127.0.0.1\nservices=ftp\namount = 3\n\
         [b.ftp]\nanonymous = perhaps\nnla = false\n\
         [ghost.http]\n\
         [b.nothing]\n",
        &Ground::default(),
    )
    .unwrap_err();
    assert_eq!(
        lines(&problems),
        [2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 18, 20, 21, 22, 23],
        "{problems:#?}"
    );
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    for part in [
        "'ssh' is not available in this version",
        "use one of windows-workstation, ",
        "use one of debian, ",
        "use one of linux, windows, ",
        "the quote ' is not closed",
        "needs 'binary = IMAGE'",
        "ftp.anonymous = 'perhaps' must be true or false",
        "unknown setting 'nla' of ftp",
        "there is no decky section [ghost]",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn malformed_lines_do_not_hide_what_else_is_wrong() {
    let text = "[a\nservices = http\n[b]\nservices = gopher\nwhat\n[b]\nservices = http\n";
    let problems = parse(text, &Ground::default()).unwrap_err();
    assert_eq!(lines(&problems), [1, 4, 5, 6], "{problems:?}");
}

#[test]
fn two_deckies_never_share_an_address_or_a_name() {
    let text = "[a]\nip = 127.0.0.5\nservices = http\n[b]\nip = 127.0.0.5\nservices = http\n\
                [c]\nservices = http\namount = 2\n[c-01]\nservices = http\n";
    let problems = parse(text, &Ground::default()).unwrap_err();
    assert_eq!(lines(&problems), [5, 10], "{problems:?}");
    assert_eq!(
        problems[0].what,
        "127.0.0.5 is already the address of [a] (line 2)"
    );
    assert!(problems[1].what.contains("line 7"), "{problems:?}");
}

#[test]
fn addresses_must_suit_the_runtime_and_the_network() {
    let text = "[general]\nnet = 10.0.0.0/24\ngw = 10.0.0.1\n\
                [a]\nip = 10.0.0.1\nservices = http\n\
                [b]\nip = 10.0.1.1\nservices = http\n\
                [c]\nip = 127.0.0.2\nservices = http\n\
                [d]\nip = 10.0.0.2\nservices = http\nruntime = local\n\
                [e]\nip = fe80::1\nservices = http\n\
                [f]\nip = 127.0.0.3\nservices = http\nruntime = local\n";
    let problems = parse(text, &Ground::default()).unwrap_err();
    assert_eq!(lines(&problems), [5, 8, 11, 14, 18], "{problems:?}");
    let text = "[general]\nnet = 10.0.0.0/24\ngw = 10.9.0.1\nruntime = local\n[a]\nservices=http\n";
    let problems = parse(text, &Ground::default()).unwrap_err();
    assert_eq!(lines(&problems), [2], "{problems:?}");
}

#[test]
fn services_of_ones_own_need_docker_and_ports_of_their_own() {
    let text = "[custom-w]\nbinary = x\nports = 80\n[a]\nservices = w\n[b]\nruntime = docker\nservices = http, w\n";
    let problems = parse(text, &Ground::default()).unwrap_err();
    assert_eq!(lines(&problems), [5, 8], "{problems:?}");
    assert!(problems[0].what.contains("runtime = docker"));
    assert!(problems[1].what.contains("both use port 80"));
}

#[test]
fn what_an_archetype_lacks_and_what_nobody_would_believe_is_noted() {
    let deployment = read("[a]\narchetype = database-server\n[b]\narchetype = database-server\n");
    assert_eq!(deployment.notes.len(), 1);
    assert!(
        deployment.notes[0].contains("mysql, postgres not available"),
        "{:?}",
        deployment.notes
    );
    let deployment = read("[a]\nnmap_os = cisco\nservices = redis, http\n");
    assert_eq!(deployment.notes, ["redis is not believable on cisco"]);
}

/// Lines a deployment file might have, right and wrong.
fn any_line() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    prop_oneof![
        4 => proptest::sample::select(vec![
            "[general]", "[a]", "[b]", "[a.http]", "[b.ftp]", "[custom-x]", "[a.x]", "[]", "[a",
            "net = 10.0.0.0/24", "net = 127.0.0.0/8", "net = ::/0", "net = 255.255.255.255/32",
            "gw = 10.0.0.1", "interface = eth0", "runtime = docker", "runtime = local",
            "driver = bridge", "ip = 10.0.0.1", "ip = 127.0.0.9", "ip = ::1", "services = http, x",
            "services = ,", "services = redis ftp", "archetype = printer", "archetype = mail-server",
            "distro = arch", "nmap_os = cisco", "mutate_interval = 5", "amount = 3",
            "amount = 100", "binary = img", "exec = a 'b", "exec = a b", "ports = 80 21",
            "anonymous = false", "server_header = x", "",
        ]).prop_map(str::to_owned),
        1 => "[\\[\\]a-z.=0-9 ;#'\"é-]{0,40}",
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]

    #[test]
    fn any_file_is_read_or_refused_by_lines_it_has(
        lines in proptest::collection::vec(any_line(), 0..40)
    ) {
        let text = lines.join("\n");
        let count = text.lines().count().max(1);
        match parse(&text, &Ground::default()) {
            Ok(deployment) => {
                proptest::prop_assert!(!deployment.asks.is_empty());
                let names: BTreeSet<&str> =
                    deployment.asks.iter().map(|a| a.name.as_str()).collect();
                proptest::prop_assert_eq!(names.len(), deployment.asks.len());
                let addresses: Vec<_> = deployment.asks.iter().filter_map(|a| a.ip).collect();
                let distinct: BTreeSet<_> = addresses.iter().collect();
                proptest::prop_assert_eq!(distinct.len(), addresses.len());
            }
            Err(problems) => {
                proptest::prop_assert!(!problems.is_empty());
                for problem in problems {
                    proptest::prop_assert!((1..=count).contains(&problem.line), "{}", problem);
                    proptest::prop_assert!(!problem.what.contains('\n'));
                }
            }
        }
    }
}
