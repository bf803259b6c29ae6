//! What the migrations may do: version N runs beside version N-1 on one store. `crates/store/src/lib.rs` has the rules for
//! who writes one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Migrations of one kind of database, in order, by the name of their file without `.sql`.
type Migrations = Vec<(String, String)>;

fn migrations(owner: &str, database: &str) -> Migrations {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates")
        .join(owner)
        .join("migrations")
        .join(database);
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

/// Those after the table that says which programs may work on the tables, and those up to it.
fn with_rules(mut migrations: Migrations) -> (Migrations, Migrations) {
    let ours = |(name, _): &(String, String)| name.ends_with("_compatibility");
    let before = migrations.iter().position(ours).expect("the table is made");
    let after = migrations.split_off(before + 1);
    (after, migrations)
}

/// The oldest program that the file names.
fn oldest_beside(text: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("-- oldest program beside: "));
    line.map(|number| number.trim().parse().expect("it is a number"))
}

/// Statements in capital letters, with single spaces, and without comments and marks.
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines();
    let code = lines.map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code = code.collect::<Vec<_>>().join(" ").replace('@', "");
    let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    code.split(';')
        .map(|statement| words(statement).to_uppercase())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// The name that follows these words, in a statement that begins with `begins`.
fn name_after<'s>(statement: &'s str, begins: &str, words: &str) -> Option<&'s str> {
    let rest = statement.strip_prefix(begins)?.split_once(words)?.1;
    let rest = rest.trim_start_matches("IF NOT EXISTS ");
    let rest = rest.trim_start_matches("IF EXISTS ").trim_start();
    rest.split([' ', '(']).next()
}

/// What in a migration breaks programs that know only the tables `before` it.
fn breaks(text: &str, before: &str) -> Vec<String> {
    let statements = statements(text);
    let made: BTreeSet<&str> = statements
        .iter()
        .filter_map(|statement| name_after(statement, "CREATE TABLE", " "))
        .collect();
    let is_older = |table: Option<&str>| table.is_some_and(|table| !made.contains(table));
    let unique: Vec<String> = self::statements(before)
        .iter()
        .filter_map(|statement| name_after(statement, "CREATE UNIQUE INDEX", " "))
        .map(str::to_owned)
        .collect();
    let broken = |statement: &&String| {
        let statement = statement.as_str();
        let dropped = name_after(statement, "DROP TABLE", " ");
        let index = name_after(statement, "DROP INDEX", " ");
        let narrowed = name_after(statement, "CREATE UNIQUE INDEX", " ON ");
        let altered = name_after(statement, "ALTER TABLE", " ");
        let adds = |clause: &str| {
            clause.contains("NOT NULL") && !clause.contains("DEFAULT")
                || [
                    "CHECK",
                    "UNIQUE",
                    "CONSTRAINT",
                    "PRIMARY KEY",
                    "REFERENCES",
                    "EXCLUDE",
                ]
                .iter()
                .any(|word| clause.contains(word))
        };
        let changes = [" RENAME ", " DROP ", " ALTER "];
        let changes = |statement: &str| {
            let action = statement.trim_start_matches("ALTER TABLE");
            changes.iter().any(|change| action.contains(change))
        };
        is_older(dropped)
            || index.is_some_and(|index| unique.iter().any(|one| one == index))
            || is_older(narrowed)
            || is_older(altered)
                && (changes(statement) || statement.split(" ADD ").skip(1).any(adds))
    };
    statements.iter().filter(broken).cloned().collect()
}

#[test]
fn no_migration_breaks_the_version_before_unless_it_says_so() {
    for owner in ["store", "config-database"] {
        for database in ["sqlite", "postgres"] {
            let (after, mut before) = with_rules(migrations(owner, database));
            for (name, text) in after {
                let place = format!("crates/{owner}/migrations/{database}/{name}.sql");
                let number: i64 = name.split_once('_').unwrap().0.parse().unwrap();
                if let Some(oldest) = oldest_beside(&text) {
                    assert!(
                        (1..=number).contains(&oldest),
                        "{place} names migration {oldest} as that of the oldest program"
                    );
                } else {
                    let known: String = before.iter().map(|(_, text)| text.as_str()).collect();
                    let broken = breaks(&text, &known);
                    assert!(
                        broken.is_empty(),
                        "{place} breaks programs of the version before, and has no line \
                         `-- oldest program beside: …`:\n{broken:#?}"
                    );
                }
                before.push((name, text));
            }
        }
    }
}

#[test]
fn both_databases_have_the_same_migrations_and_say_the_same_of_older_programs() {
    for owner in ["store", "config-database"] {
        let said = |database: &str| -> Vec<(String, bool)> {
            let (after, _) = with_rules(migrations(owner, database));
            let says = |(name, text): &(String, String)| {
                let name = name.split_once('_').unwrap().1.to_owned();
                (name, oldest_beside(text).is_some())
            };
            after.iter().map(says).collect()
        };
        assert_eq!(said("sqlite"), said("postgres"), "of {owner}");
    }
}

#[test]
fn what_breaks_an_older_program_is_found() {
    let before = "CREATE TABLE @a (b TEXT); CREATE UNIQUE INDEX @a_by_b ON @a (b); CREATE INDEX @a_by_c ON @a (c);";
    for breaking in [
        "DROP TABLE @a;",
        "DROP TABLE IF EXISTS a;",
        "ALTER TABLE a RENAME TO old_a;",
        "ALTER TABLE @a RENAME COLUMN b TO c;",
        "ALTER TABLE a DROP COLUMN b;",
        "ALTER TABLE a DROP b;",
        "alter table a\n    add column c TEXT NOT NULL;",
        "ALTER TABLE a ADD COLUMN c TEXT NOT NULL DEFAULT '', ADD COLUMN d TEXT NOT NULL;",
        "ALTER TABLE a ADD COLUMN c TEXT CHECK (c <> '');",
        "ALTER TABLE a ADD CONSTRAINT is_short CHECK (length(b) < 9);",
        "ALTER TABLE a ADD PRIMARY KEY (b);",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c (d);",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL;",
        "ALTER TABLE a ALTER COLUMN b TYPE BIGINT;",
        "CREATE UNIQUE INDEX again ON @a (b);",
        "DROP INDEX @a_by_b;",
        // As SQLite changes a table.
        "CREATE TABLE new_a (b TEXT); DROP TABLE a; ALTER TABLE new_a RENAME TO a;",
    ] {
        assert_ne!(breaks(breaking, before), [""; 0], "{breaking}");
    }
    for adding in [
        "-- DROP TABLE a; is not what it does.\nCREATE TABLE @c (d TEXT NOT NULL CHECK (d <> ''));",
        "CREATE TABLE c (d TEXT); CREATE UNIQUE INDEX c_by_d ON c (d); ALTER TABLE c RENAME TO e;",
        "ALTER TABLE @a ADD COLUMN c TEXT;",
        "ALTER TABLE a ADD COLUMN c BIGINT NOT NULL DEFAULT 0;",
        "CREATE INDEX a_by_d ON a (d); DROP INDEX @a_by_c;",
        "UPDATE a SET b = 'x' WHERE b IS NULL;",
        "DROP TRIGGER t; CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM c; END;",
    ] {
        assert_eq!(breaks(adding, before), [""; 0], "{adding}");
    }
    let named =
        "-- No program reads `b`.\n-- oldest program beside: 31\nALTER TABLE a DROP COLUMN b;";
    assert_eq!(oldest_beside(named), Some(31));
}
