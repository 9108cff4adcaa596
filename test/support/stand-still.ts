/** Holds a process where it is (SIGSTOP) until disposed of: a move stands still, and the test needs no luck to see it in the middle. */
export function standStill(pid: number): Disposable {
  const tell = (signal: NodeJS.Signals): void => {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it was killed meanwhile
    }
  };
  tell('SIGSTOP');
  return { [Symbol.dispose]: () => tell('SIGCONT') };
}
