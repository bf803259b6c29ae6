# `make` alone lists the targets.
.DEFAULT_GOAL := help
DEMO := var/demo

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: ## Run the agent on the sample preferences beside a shop and a mailbox, catching up with the last day
	@tests/setup.sh build
	@rm -rf $(DEMO)
	cargo build --locked -p punctual-agent -p punctual-demo
	CONFIG_STORE_URL=sqlite://$(DEMO)/config.db CONFIG_LAST_KNOWN_GOOD_PATH=$(DEMO)/known \
		BATCH_STORE_URL=sqlite://$(DEMO)/punctual.db \
		target/debug/punctual-demo target/debug/punctual-agent run --import data/preferences/sample.ndjson --look-back 24h

scoreboard: setup ## Measure reliability and performance, and write docs/SCOREBOARD.md
	tests/scoreboard.sh

screenshots: setup ## Take the pictures of the README anew
	tests/screenshots.sh

reference: ## Write docs/reference from what the code says of itself
	cargo build --locked --bin punctual-agent
	python3 tests/reference.py

book: ## Make a site of the documents in target/book/site, and check its links
	@tests/tools.sh mdbook
	python3 tests/book.py

# Many tests wait for a process: two for each core take half as long as one.
test: export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))
test: setup ## Set up what the tests need and run every test
	tests/with-model.sh tests/with-smtp.sh tests/with-clients.sh tests/with-oidc.sh tests/with-engines.sh tests/with-postgres.sh cargo test --locked --workspace --all-features
	tests/recurrence.sh
	tests/upgrades.sh
	tests/with-postgres.sh tests/openapi.sh
	python3 tests/reference.py --check
	tests/container.sh
	tests/package.sh
	tests/kubernetes.sh

package: setup ## Make the Debian package, and try it on a clean Debian
	cargo build --locked --bins
	tests/package.sh

release: ## Make the files of a release from what is committed, in target/release-files
	@tests/setup.sh test
	tests/release.sh

release-check: ## Make a release twice, compare the files, and try its Debian package (compiles everything twice)
	@tests/setup.sh test
	tests/reproducible.sh
	tests/package.sh target/release-build/release

setup: ## Install what the tests need from Debian's packages, where it is missing
	@tests/setup.sh test

fresh: ## Make a fresh Debian in a folder and run `make run` and `make test` in it, as root
	tests/fresh.sh

lint: ## Check words, format, lints and documentation
	tests/words.sh
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	cargo clippy --locked -p punctual --no-default-features --features testing -- -D warnings
	cargo clippy --locked -p punctual-agent --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features

dependencies: ## Check licences, sources and bans of what is depended on, and that all of it is used
	@tests/tools.sh cargo-deny cargo-machete
	cargo fetch --locked # Of every platform: a build fetches only its own.
	target/tools/bin/cargo-deny --offline --all-features check bans licenses sources
	target/tools/bin/cargo-machete

coverage: ## Measure how much of the domain and the use cases their own tests run
	@tests/tools.sh cargo-tarpaulin
	target/tools/bin/cargo-tarpaulin --engine llvm --locked --packages punctual-domain --packages punctual-application \
		--all-features --lib --include-files 'crates/domain/src/*' --include-files 'crates/application/src/*' \
		--exclude-files 'crates/application/src/testing/*' --target-dir target/coverage --skip-clean --fail-under 80

clean: ## Remove what was built and what the demo stored
	cargo clean
	rm -rf var

.PHONY: help run scoreboard screenshots reference book test package release release-check setup fresh lint dependencies coverage clean
