//! Containers that are killed or removed, engines that crash: one look later all is as
//! it was, and what never stopped was never touched.

use decnet::docker::container;

use crate::lab::{Lab, block_on};

#[test]
#[ignore = "needs root and dockerd"]
fn what_is_killed_or_removed_is_back_after_one_look() {
    let Some(lab) = Lab::new("what_is_killed_or_removed_is_back_after_one_look", &[]) else {
        return;
    };
    for n in 1..=3 {
        lab.want(&format!("decky-{n}"), &format!("10.66.0.4{n}"), |_, _| {});
    }
    assert_eq!(lab.reconcile()["running"], 3);
    let untouched = lab.life("decky-3");
    let engine = lab.client();
    let (killed, removed) = (lab.life("decky-1").0, lab.life("decky-2").0);
    block_on(engine.client().kill_container(&killed, None)).unwrap();
    block_on(container::remove(&engine, &removed)).unwrap();

    let done = lab.reconcile();
    assert_eq!(
        (&done["running"], &done["inserted"]),
        (&3.into(), &2.into())
    );
    for n in 1..=3 {
        lab.connect(&format!("10.66.0.4{n}:80")).unwrap();
    }
    assert_ne!(lab.life("decky-1").0, killed);
    assert_ne!(lab.life("decky-2").0, removed);
    assert_eq!(lab.life("decky-3"), untouched);

    // A start that was interrupted between its steps is finished by the next.
    let id = lab.life("decky-1").0;
    block_on(container::remove(&engine, &id)).unwrap();
    let found = block_on(container::list(
        &engine,
        &lab.state().join("run/deckies"),
        None,
    ));
    assert_eq!(found.unwrap().len(), 2);
    let half = bollard::models::ContainerCreateBody {
        image: Some(lab.inspect("decnet-decky-2").unwrap().image.unwrap()),
        cmd: Some(vec!["/decnet".to_owned()]),
        labels: lab
            .inspect("decnet-decky-2")
            .and_then(|seen| seen.config?.labels)
            .map(|mut labels| {
                labels.insert("decnet.fleet.decky".to_owned(), "decky-1".to_owned());
                labels
            }),
        ..Default::default()
    };
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::default()
        .name("decnet-decky-1")
        .build();
    block_on(engine.client().create_container(Some(options), half)).unwrap();
    assert_eq!(lab.reconcile()["running"], 3);
    lab.connect("10.66.0.41:80").unwrap();
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_crashed_engine_costs_what_it_took_along_and_no_more() {
    let name = "a_crashed_engine_costs_what_it_took_along_and_no_more";
    let Some(mut lab) = Lab::new(name, &["--live-restore"]) else {
        return;
    };
    lab.want("decky-1", "10.66.0.51", |_, _| {});
    lab.want("decky-2", "10.66.0.52", |_, _| {});
    assert_eq!(lab.reconcile()["running"], 2);
    let before = (lab.life("decky-1"), lab.life("decky-2"));

    lab.kill_engine();
    // The deckies live on, and a look without an engine leaves them so.
    let done = lab.reconcile();
    assert_eq!(
        (&done["running"], &done["inserted"]),
        (&2.into(), &0.into())
    );
    lab.connect("10.66.0.51:80").unwrap();
    // One that is wanted now is told what is missing, in a line.
    lab.want("decky-3", "10.66.0.53", |_, _| {});
    assert_eq!(lab.reconcile()["running"], 2);
    let error = lab.decky("decky-3")["last_error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("no Docker engine answers"), "{error}");
    assert!(error.contains("systemctl start docker"), "{error}");
    assert_eq!(error.lines().count(), 1);

    lab.start_engine();
    assert_eq!(lab.reconcile()["running"], 3);
    assert_eq!((lab.life("decky-1"), lab.life("decky-2")), before);

    // Without live restore the next engine ends what it finds.
    lab.kill_engine();
    lab.without_live_restore();
    lab.start_engine();
    let done = lab.reconcile();
    assert_eq!(done["running"], 3, "{done}");
    for n in 1..=3 {
        lab.connect(&format!("10.66.0.5{n}:80")).unwrap();
    }
}
