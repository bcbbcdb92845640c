//! Arguments, logging and the exit code.

fn main() -> std::process::ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .unwrap();
    let mut settings = assistd::config::Settings::ephemeral();
    settings.environment = std::env::vars().collect();
    if let Ok(dir) = std::env::var("ASSISTD_DATA_DIR") {
        settings.data_dir = Some(dir.into());
    }
    let code = runtime.block_on(async {
        let input = assistd::stdio::Stdin::open().unwrap();
        let output = assistd::stdio::Stdout::open().unwrap();
        let signals = assistd::Signals::default();
        let gone = signals.client_gone.clone();
        let closed = output.closed().unwrap();
        tokio::task::spawn_local(async move {
            closed.await;
            gone.cancel()
        });
        assistd::serve(input, output, settings, signals).await
    });
    std::process::ExitCode::from(code)
}
