/** What the built-in guest is told to do: environment first, then the machine's own kernel arguments; nonsense is refused. */
import { describe, expect, it } from 'vitest';
import { builtInLoad } from '../../../src/hypervisor/built-in-load.js';

describe('the load of the built-in guest', () => {
  it('is empty when nothing is said', () => {
    expect(builtInLoad({}, 'quiet panic=-1')).toEqual({});
  });

  it("comes from the host's environment, and the machine's kernel arguments win", () => {
    const environment = { VMSTORAGE_BUILT_IN_GUEST: '{"queueDepth":8,"rate":100,"verifyAtEnd":false}' };
    expect(builtInLoad(environment, 'quiet w.qd=4 w.span=64')).toEqual({
      queueDepth: 4,
      rate: 100,
      verifyAtEnd: false,
      spanBytes: 64 * 2 ** 20,
    });
  });

  it.each(['{"queueDepht":8}', '{"rate":-1}', '{"rate":"1"}', '[', '3'])('refuses %s', (text) => {
    expect(() => builtInLoad({ VMSTORAGE_BUILT_IN_GUEST: text }, '')).toThrow(/built-in guest|JSON object/);
  });

  it('refuses a kernel argument of ours without a number', () => {
    expect(() => builtInLoad({}, 'w.qd=many')).toThrow('w.qd=many');
  });
});
