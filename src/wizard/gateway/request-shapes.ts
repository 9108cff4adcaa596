/** What the page may send. Anything else is refused before the host hears of it, which then looks at names and paths itself. */
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { ORDERS_MAX } from '../contract/messages.js';

const PATH_MAX = 4096;
const DISKS_MAX = 260;
const id = Type.String({ pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' });
/** Nobody's working folder is meant by what a page sends. */
const path = Type.String({ pattern: '^/', maxLength: PATH_MAX });
const pathOrNone = Type.Union([path, Type.Null()]);
const strict = { additionalProperties: false };

const order = Type.Object(
  {
    vmId: id,
    vmName: Type.String({ maxLength: 1024 }),
    nameIsUnique: Type.Boolean(),
    destination: Type.Union([
      Type.Object({ kind: Type.Literal('single'), folder: path }, strict),
      Type.Object(
        {
          kind: Type.Literal('multiple'),
          virtualMachinePath: pathOrNone,
          snapshotFilePath: pathOrNone,
          smartPagingFilePath: pathOrNone,
          disks: Type.Array(Type.Object({ source: path, target: path }, strict), { maxItems: DISKS_MAX }),
        },
        strict,
      ),
    ]),
    retainSources: Type.Boolean(),
    requireFullSize: Type.Boolean(),
  },
  strict,
);

const orders = Type.Object({ orders: Type.Array(order, { minItems: 1, maxItems: ORDERS_MAX }) }, strict);
const secret = Type.Object({ secret: Type.String({ minLength: 1, maxLength: 200 }) }, strict);
const stop = Type.Object({ moveId: id }, strict);

const [ordersCheck, secretCheck, stopCheck] = [Compile(orders), Compile(secret), Compile(stop)];

export const isOrders = (value: unknown): value is Static<typeof orders> => ordersCheck.Check(value);
export const isSecret = (value: unknown): value is Static<typeof secret> => secretCheck.Check(value);
export const isStop = (value: unknown): value is Static<typeof stop> => stopCheck.Check(value);
