/** The receipt of a move: what was verified of each disk, to be checked with any tool that knows the hash. */
import type { DiskReceipt } from '../../model/move.js';
import { leafOf } from '../steps/facts.js';
import type { Move } from './store.js';
import { bytes, t, time } from './text.js';

export function Receipt({ move }: { readonly move: Move }) {
  if (move.Receipt === null) return null;
  const disks = JSON.parse(move.Receipt) as readonly DiskReceipt[];
  if (disks.length === 0) return null;
  return (
    <section>
      <h3>{t('receipt')}</h3>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('receipt')}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t('receiptDisk')}</th>
              <th scope="col">{t('receiptBytes')}</th>
              <th scope="col">{t('receiptHash')}</th>
              <th scope="col">{t('receiptVerified')}</th>
              <th scope="col">{t('receiptSwitched')}</th>
            </tr>
          </thead>
          <tbody>
            {disks.map((disk) => (
              <tr key={disk.disk}>
                <th scope="row">{leafOf(disk.target.path)}</th>
                <td>{bytes(disk.bytes)}</td>
                <td>
                  <code>{disk.hash}</code>
                </td>
                <td>{time(disk.verifiedAt)}</td>
                <td>{time(disk.switchedAt)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
