
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0012_worker_environment'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='rollbacks',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='step',
            name='undoable',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
