/** What `vmstorage wizard --help` says. Apart from the command, which is loaded only when it is run. */
export const WIZARD_HELP =
  'Opens the Move Wizard in a browser: a page on 127.0.0.1 for you alone, until Ctrl+C. A link works once, within a minute; Enter prints a new one.\n\n' +
  'From another computer: run vmstorage wizard --port 8421 --no-browser here and ssh -L 8421:127.0.0.1:8421 USER@THIS-HOST there, ' +
  'and open the printed link there.';
