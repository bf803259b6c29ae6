//! The examples: each is run, and what it prints is what it should.

use std::process::Command;

/// What the example prints. It is built beside this test.
fn printed(example: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let output = Command::new(target.join("examples").join(example))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn own_handler() {
    assert_eq!(printed("own_handler"), "Good morning, ann!\nMoin, bob!\n");
}

#[test]
fn own_result_sink() {
    assert_eq!(
        printed("own_result_sink"),
        "reports for ann: succeeded {\"pages\":3}\n\
         reports for bob: succeeded {\"pages\":3}\n\
         reports for eve: succeeded {\"pages\":3}\n"
    );
}

#[test]
fn fixed_schedule() {
    assert_eq!(
        printed("fixed_schedule"),
        "/jobs/0/schedule/cron: \"0 25 * * *\" is not a cron expression: its hour is \"25\", \
         expected 0 to 23; use five fields, minute hour day month weekday, such as \"30 9 * * 1-5\"\n\
         nightly at work\n"
    );
}

#[test]
fn operator_calls() {
    assert_eq!(
        printed("operator_calls"),
        "queued 1 item\nfailed: ann has no address\nreplayed 1 item\npaused: true\n\
         ann: will run: due at 2030-01-01 06:00:00 UTC\n"
    );
}

#[test]
fn unit_test() {
    assert_eq!(
        printed("unit_test"),
        "the last one ran at 2026-03-16 09:00:00 UTC\n"
    );
}

#[test]
fn axum_service() {
    assert_eq!(
        printed("axum_service"),
        "200 OK: due weekly friday 17:30 UTC\n\
         422 Unprocessable Entity: /preferred_time: \"soon\" is not a time of day; use HH:MM from 00:00 to \
         23:59, such as 09:00\n\
         \"reports\" in \"reports\"\n"
    );
}
