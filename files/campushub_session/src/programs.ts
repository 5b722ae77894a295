/**
 * What uses most of the user's limits, for a dialog.
 */

import type { Api, Program, Usage } from './api';
import type { Format } from './format';
import type { Translations } from './translation';

/** As many as fit; what is smaller is hardly what somebody looks for. */
const LONGEST = 12;

export class ProgramsBody {
  readonly node = document.createElement('div');
  private readonly summary = document.createElement('p');
  private readonly table = document.createElement('table');

  constructor(
    private readonly api: Api,
    private readonly trans: Translations,
    private readonly format: Format,
    /** The hub's page with what holds for the user, where that is known. */
    limits?: string
  ) {
    this.node.className = 'campushub-Programs';
    this.node.append(this.summary, this.table);
    if (limits) {
      this.node.append(this.limitsLink(limits));
    }
    void this.refresh();
  }

  private limitsLink(limits: string): HTMLElement {
    const link = document.createElement('a');
    link.href = limits;
    link.target = '_blank';
    link.rel = 'noopener';
    link.textContent = this.trans.__('My limits');
    return link;
  }

  private async refresh(): Promise<void> {
    const { trans } = this;
    try {
      const [usage, programs] = await Promise.all([this.api.usage(), this.api.programs()]);
      this.summary.textContent = this.describe(usage);
      const head = this.table.createTHead();
      head.replaceChildren(this.row([trans.__('Program'), trans.__('Memory'), trans.__('CPU cores'), '']));
      const body = this.table.tBodies[0] ?? this.table.createTBody();
      body.replaceChildren(...programs.slice(0, LONGEST).map(program => this.programRow(program)));
    } catch (error) {
      this.summary.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  private describe({ memory, home, cpu }: Usage): string {
    const { trans, format } = this;
    return [
      memory && trans.__('Memory %1', format.memory(memory)),
      cpu && trans.__('CPU %1', format.cpu(cpu)),
      home && trans.__('Disk of the home directory %1', format.memory(home))
    ]
      .filter(Boolean)
      .join(' · ');
  }

  private name({ kind, name }: Program): string {
    const { trans } = this;
    switch (kind) {
      case 'terminal':
        return trans.__('Terminal %1', name);
      case 'display':
        return trans.__('Display: %1', name);
      case 'server':
        return name ? trans.__('Server %1', name) : trans.__('Server');
      default:
        return name;
    }
  }

  private row(texts: string[]): HTMLTableRowElement {
    const row = document.createElement('tr');
    texts.forEach(text => (row.insertCell().textContent = text));
    return row;
  }

  private programRow(program: Program): HTMLTableRowElement {
    const { format, trans } = this;
    const row = this.row([this.name(program), format.bytes(program.memory), format.number(program.cpu)]);
    row.dataset.kind = program.kind;
    const cell = row.insertCell();
    if (program.address) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'jp-Dialog-button jp-mod-styled jp-mod-warn';
      button.textContent = trans.__('Shut down');
      button.addEventListener('click', () => {
        button.disabled = true;
        this.api
          .shutDown(program)
          .catch((error: unknown) => {
            // It may have ended meanwhile; the list says so.
            console.warn('A program was not shut down.', error);
          })
          .finally(() => void this.refresh());
      });
      cell.append(button);
    }
    return row;
  }
}
