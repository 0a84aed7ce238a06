# Two stages: the first builds, the second is the binary and what it links to, and runs as nobody.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --locked --release --bin tidegate \
 && install -D target/release/tidegate /out/usr/bin/tidegate \
 && install -d -o 65532 -g 65532 /out/var/lib/tidegate \
 && install -d /out/etc/tidegate

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /
# Mount your config at /etc/tidegate/tidegate.toml. In a container of its own, bind listeners to
# 0.0.0.0 and ports of 1024 and up; the admin API stays on loopback, where HEALTHCHECK finds it.
USER 65532:65532
VOLUME /var/lib/tidegate
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/usr/bin/tidegate", "healthcheck", "--config", "/etc/tidegate/tidegate.toml"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["run", "--config", "/etc/tidegate/tidegate.toml"]
