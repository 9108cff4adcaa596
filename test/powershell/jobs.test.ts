/** -AsJob as runbooks use it: progress on the parent, the failure at .ChildJobs[0].JobStateInfo.Reason, Stop-Job that stops. */
import { beforeEach, describe, expect, it } from 'vitest';
import { vm } from '../support/objects.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import type { Call } from '../support/scripted-host.js';
import { scriptedShell } from '../support/scripted-shell.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('jobs', () => {
  const shell = scriptedShell({
    'Get-VM': async (call) => {
      for (const name of ['web01', 'web02', 'web03']) await call.output(vm({ Name: name }));
    },
    'Move-VMStorage': move,
  });
  beforeEach(() => shell.session.invoke('foreach ($j in Get-Job) { Remove-Job $j -Force }'));

  async function move(call: Call): Promise<void> {
    if (!(await call.ask('Move-VMStorage will move it.'))) return;
    await call.progress({ id: 1, activity: 'Moving storage', status: 'copy', percent: 40 });
    await call.progress({ id: 1, activity: 'Moving storage', status: 'mirror', percent: 90 });
    await call.text('verbose', 'said');
    await call.text('warning', 'mind');
  }

  it('is one job in the repository, and completes', async () => {
    const { output, errors } = await shell.session.invoke<Record<string, unknown>>(`
      $j = Move-VMStorage web01 /x -AsJob
      $null = Wait-Job $j
      @{ count = @($j).Count; same = [object]::ReferenceEquals((Get-Job -Id $j.Id), $j); state = "$($j.State)"; child = "$($j.ChildJobs[0].State)"; type = $j.PSJobTypeName
         progress = @($j.Progress.PercentComplete); last = (Get-Job -Id $j.Id).Progress[-1].PercentComplete; childLast = $j.ChildJobs[0].Progress[-1].StatusDescription
         command = $j.Command; status = $j.StatusMessage; more = $j.HasMoreData; began = $null -ne $j.PSBeginTime; ended = $null -ne $j.PSEndTime; warnings = @($j.ChildJobs[0].Warning.Message) }`);
    expect(errors).toEqual([]);
    expect(output).toEqual([
      {
        count: 1,
        same: true,
        state: 'Completed',
        child: 'Completed',
        type: 'VMJob',
        progress: [40, 90],
        last: 90,
        childLast: 'mirror',
        command: 'Move-VMStorage web01 /x -AsJob',
        status: 'mirror',
        more: true,
        began: true,
        ended: true,
        warnings: ['mind'],
      },
    ]);
  });

  it('shows progress while it runs, and receives once', async () => {
    let goOn = (): void => {};
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.progress({ id: 1, activity: 'Moving storage', status: 'copy', percent: 40 });
      await new Promise<void>((resolve) => (goOn = resolve));
    };
    const first = await shell.session.invoke<unknown>(`
      $global:j = Move-VMStorage web01 /x -AsJob
      while ($j.Progress.Count -eq 0) { Start-Sleep -Milliseconds 10 }
      "$($j.State)"; $j.Progress[-1].PercentComplete`);
    expect(first.output).toEqual(['Running', 40]);
    goOn();
    const second = await shell.session.invoke('Receive-Job $j -Wait -AutoRemoveJob; @(Get-Job).Count');
    expect(second.errors).toEqual([]);
    expect(second.output).toEqual([0]);
  });

  it('a failure has the category, id and target it has without a job', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.error({
        message: 'There is not enough space.',
        errorId: 'NoSpace',
        category: 'ResourceUnavailable',
        code: 'NoSpace',
        target: 'web01',
      });
    };
    const seen = '"$($_.CategoryInfo.Category) $($_.FullyQualifiedErrorId) $($_.TargetObject) $($_.Exception.Message)"';
    const { output, errors } = await shell.session.invoke<string>(`
      try { Move-VMStorage web01 /x -ErrorAction Stop } catch { ${seen} }
      $j = Move-VMStorage web01 /x -AsJob; $null = Wait-Job $j
      try { Receive-Job $j -ErrorAction Stop } catch { ${seen} }`);
    expect(errors).toEqual([]);
    expect(output[0]).toMatch(/^ResourceUnavailable NoSpace,.*MoveVMStorage web01 There is not enough space\.$/);
    expect(output[1]).toBe(output[0]);
  });

  it('a failure is the reason of the child, said once by Receive-Job, and catchable', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.error({ message: 'There is not enough space.', errorId: 'NoSpace', category: 'ResourceUnavailable', code: 'NoSpace' });
    };
    const { output, errors } = await shell.session.invoke<Record<string, unknown>>(`
      $j = Move-VMStorage web01 /x -AsJob
      $null = Wait-Job $j
      @{ state = "$($j.State)"; reason = $j.ChildJobs[0].JobStateInfo.Reason.Message; type = $j.ChildJobs[0].JobStateInfo.Reason.GetType().Name; code = $j.ChildJobs[0].JobStateInfo.Reason.Code
         caught = $(try { Receive-Job $j -Keep -ErrorAction Stop } catch { $_.Exception.Message }) }
      Receive-Job $j`);
    expect(output).toEqual([
      {
        state: 'Failed',
        reason: 'There is not enough space.',
        type: 'VirtualizationException',
        code: 'NoSpace',
        caught: 'There is not enough space.',
      },
    ]);
    expect(errors.map((error) => error.message)).toEqual(['There is not enough space.']);
  });

  it('a host that dies fails the job with what is known', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      shell.host.cut();
    };
    const { output } = await shell.session.invoke<string>(
      '$j = Move-VMStorage web01 /x -AsJob; $null = Wait-Job $j; "$($j.State)"; $j.ChildJobs[0].JobStateInfo.Reason.ErrorIdentifier',
    );
    expect(output).toEqual(['Failed', 'HostConnectionLost']);
  });

  it('an error before the confirmation is an error, and there is no job', async () => {
    shell.host.scripts['Move-VMStorage'] = (call) =>
      call.error({ message: 'no such VM', errorId: 'ObjectNotFound', category: 'ObjectNotFound', code: 'ObjectNotFound' });
    const { output, errors } = await shell.session.invoke('$j = Move-VMStorage nope /x -AsJob; $null -eq $j; @(Get-Job).Count');
    expect(output).toEqual([true, 0]);
    expect(errors.map((error) => error.id)).toEqual(['ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage']);
  });

  it('Stop-Job sends stop, waits for the answer, and the job is stopped without a reason', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.stopped;
      await call.error({ message: 'It was stopped.', errorId: 'OperationStopped', category: 'OperationStopped', code: 'OperationStopped' });
    };
    const { output, errors } = await shell.session.invoke<unknown>(
      '$j = Move-VMStorage web01 /x -AsJob; Stop-Job $j; $null = Wait-Job $j; "$($j.State)"; "$($j.ChildJobs[0].State)"; $null -eq $j.ChildJobs[0].JobStateInfo.Reason',
    );
    expect(errors).toEqual([]);
    expect(output).toEqual(['Stopped', 'Stopped', true]);
    expect(shell.host.messages.map((message) => message.k)).toContain('stop');
  });

  it('a stop that comes too late leaves a completed job', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.stopped;
      await call.text('warning', 'The move has switched already; it was finished.');
    };
    const { output } = await shell.session.invoke<string>(
      '$j = Move-VMStorage web01 /x -AsJob; Stop-Job $j; $null = Wait-Job $j; "$($j.State)"; $j.ChildJobs[0].Warning.Message',
    );
    expect(output).toEqual(['Completed', 'The move has switched already; it was finished.']);
  });

  it('every piped VM has a job of its own', async () => {
    const { output } = await shell.session.invoke<number>(
      '$j = Get-VM | Move-VMStorage -DestinationStoragePath /x -AsJob; $j.Count; $null = $j | Wait-Job; @($j | Where-Object State -eq Completed).Count',
    );
    expect(output).toEqual([3, 3]);
    expect(
      shell.host.heard
        .filter((one) => one.cmdlet === 'Move-VMStorage')
        .map((one) => (one.bound['VM'] as { Name: string }).Name)
        .sort(),
    ).toEqual(['web01', 'web02', 'web03']);
  });

  it('several questions of one record are all asked before the job when the host says that more follow', async () => {
    const answers: boolean[] = [];
    shell.host.scripts['Start-VM'] = async (call) => {
      answers.push(await call.ask('a?', 'shouldProcess', false));
      answers.push(await call.ask('b?', 'shouldProcess', true));
    };
    const { output } = await shell.session.invoke('$j = Start-VM a, b -AsJob; $null = Wait-Job $j; "$($j.State)"');
    expect(output).toEqual(['Completed']);
    expect(answers).toEqual([true, true]);
  });

  it('a later question is granted when nothing would have been asked, and refused otherwise', async () => {
    const answers: boolean[] = [];
    shell.host.scripts['Remove-VM'] = async (call) => {
      answers.push(await call.ask('a?'));
      answers.push(await call.ask('b?'));
      answers.push(await call.ask('really?', 'shouldContinue'));
    };
    const { output } = await shell.session.invoke(
      '$j = Remove-VM a -AsJob; $null = Wait-Job $j; "$($j.State)"; $j.ChildJobs[0].JobStateInfo.Reason.Message',
    );
    expect(answers).toEqual([true, true, false]);
    expect(output).toEqual(['Failed', 'really? This needs a confirmation, and a job cannot ask. Use -Force or -Confirm:$false.']);
  });

  it('a later question is granted under $ConfirmPreference = None, set as text in a script', async () => {
    const answers: boolean[] = [];
    shell.host.scripts['Remove-VM'] = async (call) => {
      answers.push(await call.ask('a?'));
      answers.push(await call.ask('b?'));
    };
    const { output } = await shell.session.invoke(
      '$ConfirmPreference = "None"; $j = Remove-VM a -AsJob; $null = Wait-Job $j; "$($j.State)"',
    );
    expect(output).toEqual(['Completed']);
    expect(answers).toEqual([true, true]);
  });

  it('Remove-Job -Force ends a running job', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      await call.stopped;
    };
    const { output, errors } = await shell.session.invoke('$j = Move-VMStorage web01 /x -AsJob; Remove-Job $j -Force; @(Get-Job).Count');
    expect(errors).toEqual([]);
    expect(output).toEqual([0]);
    await shell.host.until(() => shell.host.open === 0);
  });

  it('progress is bounded; the newest is kept', async () => {
    shell.host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('?');
      for (let n = 0; n < 600; n++) await call.progress({ id: 1, activity: 'Moving', status: `${n}`, percent: n % 100 });
    };
    const { output } = await shell.session.invoke(
      '$j = Move-VMStorage web01 /x -AsJob; $null = Wait-Job $j; $j.Progress.Count; $j.Progress[-1].StatusDescription',
    );
    expect(output).toEqual([256, '599']);
  });
});
