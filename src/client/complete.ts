/** Asks the host what a word may become; used by shell completion, so it never fails and never takes long. */
import { hostAddress } from './address.js';
import { ClientConnection } from './connection.js';

/** As in the module: longer than this and the prompt feels broken. */
const budgetMs = 400;

export async function complete(kind: string, word: string, address = hostAddress()): Promise<readonly string[]> {
  let connection: ClientConnection | undefined;
  const limit = setTimeout(() => connection?.close(), budgetMs);
  try {
    connection = await ClientConnection.open(address);
    await connection.greet('complete');
    await connection.send({ k: 'complete', kind, word });
    const answer = await connection.receive();
    return answer?.k === 'items' ? answer.items.map((item) => item.text) : [];
  } catch {
    return [];
  } finally {
    clearTimeout(limit);
    connection?.close();
  }
}
