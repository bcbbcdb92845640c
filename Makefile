# make chat   build, and talk to the model inside (its weights, about 100 MB, are fetched once)
# make test   everything that is checked; the last line counts
# make bench  what a stream costs, beside curl: figures, no verdict

.PHONY: chat test bench build

chat: build
	target/release/assistd chat --provider embedded

build:
	cargo build --release

test:
	tests/run

bench:
	cargo bench --bench stream
