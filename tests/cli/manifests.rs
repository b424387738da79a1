// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that are wrong: told with file and line, and nothing else is harmed.

use std::{fs, io::Write as _, time::Duration};

use lab::{
    driver::Driver,
    need_lab,
    served::{Served, vip},
    wait,
    wire::{AskSpec, Family},
};

#[test]
fn a_file_that_does_not_parse_keeps_its_last_good_version() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut good = served.expose("good", 10, &pods[1..2]).unwrap();
    let bad = served.expose("bad", 11, &pods[2..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    let file = served.manifests.dir().join("service-bad.yaml");
    let text = fs::read_to_string(&file).unwrap();
    for (broken, line) in [
        (format!("{text}\n  not: [yaml\n"), None),
        (text.replacen("kind: Service", "kind: Service\nspec: 7", 1), None),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: nothing}\n"
                .to_owned(),
            Some(1),
        ),
    ] {
        served.manifests.write_text("service-bad", &broken).unwrap();
        let place = format!("{}:", file.display());
        let place = line.map_or(place.clone(), |line| format!("{place}{line}"));
        await_log(&served, &place);
        assert!(served.agent.log().contains("last good version"), "{}", served.agent.log());
        assert_eq!(asks(&driver, 11), "pod-2-1", "as it was");
        // Others go on being followed.
        good.take_out(&pods[1]);
        good.add(&pods[3]).unwrap();
        served.rewrite(&good).unwrap();
        assert_eq!(asks(&driver, 10), "pod-2-2");
        good.take_out(&pods[3]);
        good.add(&pods[1]).unwrap();
        served.rewrite(&good).unwrap();
    }
    // A file that somebody still writes to is not read, even if the half of it
    // is sound.
    let recoveries = served.agent.log().matches("source recovered").count();
    bad.write().unwrap();
    wait::until(Duration::from_secs(10), "the sound version", || {
        served.agent.log().matches("source recovered").count() > recoveries
    })
    .unwrap();
    let (first, rest) = text.split_at(text.find("---\n").unwrap());
    let mut open = fs::File::create(&file).unwrap();
    open.write_all(first.as_bytes()).unwrap();
    good.take_out(&pods[1]);
    good.add(&pods[3]).unwrap();
    served.rewrite(&good).unwrap();
    assert_eq!(asks(&driver, 11), "pod-2-1");
    open.write_all(rest.as_bytes()).unwrap();
    drop(open);
    bad.withdraw().unwrap();
    served.await_gone(&vip(Family::V4, 11).to_string()).unwrap();
}

#[test]
fn foreign_kinds_and_repeated_names_are_told_and_ignored() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[1..2]).unwrap();
    let driver = pods[0].driver().unwrap();
    let first = served.manifests.dir().join("service-web.yaml");
    let text = fs::read_to_string(&first).unwrap();
    // Later in the order of names: the first one counts.
    let repeated = text.replace("10.96.0.10", "10.96.0.11");
    let foreign = "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
    served.manifests.write_text("z-again", &format!("{repeated}{foreign}")).unwrap();
    let again = served.manifests.dir().join("z-again.yaml").display().to_string();
    await_log(&served, &format!("{again}:"));
    await_log(&served, "Deployment");
    await_log(&served, &format!("stands in {} already", first.display()));
    assert_eq!(asks(&driver, 10), "pod-1-2");
    assert!(driver.ask(AskSpec::tcp(vip(Family::V4, 11))).is_err());
    // When the first goes, the second takes over without an event of its own.
    served.manifests.remove("service-web").unwrap();
    wait::until(Duration::from_secs(10), "the other version", || {
        driver.ask(AskSpec::tcp(vip(Family::V4, 11))).is_ok()
    })
    .unwrap();
}

/// Removing and emptying the directory's files removes what they held, a
/// directory that vanishes removes nothing (SYN-03).
#[test]
fn syn_03_a_directory_that_vanishes_leaves_everything_as_it_is() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[1..2]).unwrap();
    let driver = pods[0].driver().unwrap();
    let dir = served.manifests.dir();
    let aside = dir.with_file_name("aside");
    fs::rename(dir, &aside).unwrap();
    await_log(&served, &dir.display().to_string());
    assert_eq!(asks(&driver, 10), "pod-1-2");
    fs::rename(&aside, dir).unwrap();
    served.manifests.remove("service-web").unwrap();
    served.await_gone(&vip(Family::V4, 10).to_string()).unwrap();
}

/// Waits until the agent has said something.
fn await_log(served: &Served, part: &str) {
    let said = wait::until(Duration::from_secs(10), &format!("the log to say {part}"), || {
        served.agent.log().contains(part)
    });
    said.unwrap_or_else(|error| panic!("{error}:\n{}", served.agent.log()));
}

/// The pod that answers for a Service.
fn asks(driver: &Driver, number: u8) -> String {
    driver.ask(AskSpec::tcp(vip(Family::V4, number))).unwrap().echo.pod
}
